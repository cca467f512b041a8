"""SHM's recurrence as a JAX `lax.scan` under jit, forward and backward; `hadamem bench ops` compares with it.

Run alone: `python benchmarks/jax_scan.py B T H` prints microseconds per row and step.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import jax
import jax.numpy as jnp


def recurrence(u, w, a, k, q):
    """(B, T, H) each -> h (B, T, H): M = M * (1 + tanh(u w^T)) + a k^T, h = M q."""

    def step(M, inputs):
        u, w, a, k, q = inputs
        M = M * (1 + jnp.tanh(u[:, :, None] * w[:, None, :])) + a[:, :, None] * k[:, None, :]
        return M, jnp.einsum("bvk,bk->bv", M, q)

    B, _, H = u.shape
    inputs = tuple(x.swapaxes(0, 1) for x in (u, w, a, k, q))
    return jax.lax.scan(step, jnp.zeros((B, H, H)), inputs)[1].swapaxes(0, 1)


def measure(B: int, T: int, H: int) -> dict:
    keys = jax.random.split(jax.random.key(0), 6)
    *inputs, gradient = (0.3 * jax.random.normal(key, (B, T, H)) for key in keys)
    forward = jax.jit(recurrence)

    @jax.jit
    def both(gradient, *inputs):
        h, pull_back = jax.vjp(recurrence, *inputs)
        return h, pull_back(gradient)

    row = {"backend": "jax lax.scan", "B": B, "T": T, "H": H}
    for name, function in (("forward_us", lambda: forward(*inputs)), ("forward_backward_us", lambda: both(gradient, *inputs))):
        jax.block_until_ready(function())
        seconds: list[float] = []
        while len(seconds) < 3 or (sum(seconds) < 2 and len(seconds) < 101):
            begin = time.perf_counter()
            jax.block_until_ready(function())
            seconds.append(time.perf_counter() - begin)
        row[name] = statistics.median(seconds) / (B * T) * 1e6
    return row


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:4]))))
