"""The gated delta rule as matrix products over chunks of steps: plain torch, any dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks, reference

_DIMENSIONS = {"v": "BTV", "k": "BTK", "q": "BTK", "beta": "BT", "log_decay": "BT", "start": "BT", "state": "BVK"}


def delta_memory(
    v: Tensor,
    k: Tensor,
    q: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    *,
    start: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Gated delta rule (Yang et al. 2024, arXiv:2412.06464): M_t = g_t M_{t-1} (1 - b_t k_t k_t^T) + b_t v_t k_t^T.

    What the memory holds at k_t is moved by b_t towards v_t, and it is read as h_t = M_t q_t. Written as
    M_t = g_t M_{t-1} + u_t k_t^T, the u_t of a chunk solve a triangular system (the WY representation of the paper), so that
    only chunks follow one another.

    Args:
        v: what is written, (B, T, V).
        k: where it is written, (B, T, K). Keep b_t |k_t|^2 within [0, 2], or M grows without bound.
        q: where the memory is read, (B, T, K).
        beta: b, how much of it is written, (B, T).
        log_decay: log g, (B, T), finite and at most 0. Default: 0, nothing is forgotten.
        start: (B, T) bool; where true, M_{t-1} is replaced by zero before step t (not even NaN passes). Default: no resets.
        state: M before the first step, (B, V, K). Default: zero.
        chunk: steps solved at once.

    Returns:
        h (B, T, V) in the dtype of `v`, and the last M (B, V, K). float16 and bfloat16 are computed in float32, and M stays
        float32. NaN or inf in an argument makes NaN of all that follows in its episode.

    Raises:
        ValueError: a shape or dtype does not fit; the message names the argument, what it was and must be.
    """
    _check({"v": v, "k": k, "q": q, "beta": beta, "log_decay": log_decay, "start": start, "state": state})
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    B, T, V = v.shape
    dtype = v.dtype
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    log_decay = torch.zeros_like(beta) if log_decay is None else log_decay
    start = torch.zeros(B, T, dtype=torch.bool, device=v.device) if start is None else start
    state = torch.zeros(B, V, k.shape[2], dtype=wide, device=v.device) if state is None else state
    v, k, q, beta, log_decay, state = (x.to(wide) for x in (v, k, q, beta, log_decay, state))
    with checks.wide_arithmetic(v):
        if T == 1:
            h, last = reference.delta_memory(v, k, q, beta, log_decay, start, state)
        else:
            h, last = _isolated(v, k, q, beta, log_decay, start, state, min(chunk, T))
    return h.to(dtype), last


def _check(tensors: dict[str, Tensor | None]) -> None:
    sizes: dict[str, int] = {}
    for name, dims in _DIMENSIONS.items():
        tensor = tensors[name]
        if tensor is None:
            continue
        if tensor.dim() == len(dims):
            for dim, size in zip(dims, tensor.shape, strict=True):
                sizes.setdefault(dim, size)
        shape = tuple(sizes.get(dim, dim) for dim in dims)
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be ({', '.join(dims)}) = {shape}, none zero")
        if name == "start":
            if tensor.dtype != torch.bool:
                raise ValueError(f"start has dtype {tensor.dtype}; it must be torch.bool")
        elif not tensor.is_floating_point():
            raise ValueError(f"{name} has dtype {tensor.dtype}; it must be a floating point type")


def _isolated(
    v: Tensor, k: Tensor, q: Tensor, beta: Tensor, log_decay: Tensor, start: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """`_chunked`, with NaN and inf kept to their episode.

    The products below weigh steps of other episodes by zero, which NaN survives. So it is taken out before and put back after.
    What overflows on the way is found by its size, outside of torch.compile and torch.func, and done again step by step.
    """
    t = torch.arange(start.shape[1], device=start.device)
    finite = sum((x.sum(-1) for x in (v, k, q)), beta + log_decay).isfinite()
    before = torch.where(state.sum((1, 2)).isfinite(), -2, -1)[:, None]
    spoilt = torch.where(finite, before, t).cummax(dim=1).values  # the last such step, -1: the state, -2: none
    first = torch.where(start, t, -1).cummax(dim=1).values  # of the episode
    bad = (spoilt >= first)[..., None]
    v, k, q, beta, log_decay, state = (torch.nan_to_num(x, 0, 0, 0) for x in (v, k, q, beta, log_decay, state))
    h, last = _chunked(v, k, q, beta, log_decay, start, state, chunk)
    # what overflows in one episode is NaN in all: finite numbers this large, or their gradients, may have done so
    if checks.route(v, k, q, beta, log_decay, start, state) == "kernels":
        limit = torch.finfo(h.dtype).max ** 0.4
        if not bool((h.abs().amax() < limit) & (last.abs().amax() < limit)):
            h, last = reference.delta_memory(v, k, q, beta, log_decay, start, state)
    return torch.where(bad, torch.nan, h), torch.where(bad[:, -1:], torch.nan, last)


def _chunked(
    v: Tensor, k: Tensor, q: Tensor, beta: Tensor, log_decay: Tensor, start: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    B, T, V = v.shape
    rest = -T % chunk  # steps that write nothing and forget nothing
    v, k, q = (F.pad(x, (0, 0, 0, rest)).view(B, -1, chunk, x.shape[2]) for x in (v, k, q))
    beta, log_decay, start = (F.pad(x, (0, rest)).view(B, -1, chunk) for x in (beta, log_decay, start))
    episode, log_g = start.cumsum(dim=-1), log_decay.cumsum(dim=-1)
    # what is left at step t of what was written at step s, and of the state before the chunk
    joined = (episode[..., :, None] == episode[..., None, :]).tril()
    left = torch.where(joined, log_g[..., :, None] - log_g[..., None, :], -torch.inf).exp()
    left_of_state = torch.where(episode == 0, log_g, -torch.inf).exp()[..., None]

    # u_t = b_t (v_t - M k_t), where M holds the u_s of the chunk before t: (1 + A) u = b v - b left_of_state k state
    A = beta[..., None] * left * (k @ k.mT)
    right = beta[..., None] * torch.cat([v, left_of_state * k], dim=-1)
    solved = torch.linalg.solve_triangular(A, right, upper=False, unitriangular=True)  # does not look at A's diagonal
    own, from_state = solved.split([V, k.shape[3]], dim=-1)

    M, states, written = state.mT, [], []  # M as (B, K, V)
    write = (left[..., -1, :, None] * k).mT
    for n in range(v.shape[1]):
        states.append(M)
        written.append(torch.baddbmm(own[:, n], from_state[:, n], M, alpha=-1))
        M = torch.baddbmm(left_of_state[:, n, -1:] * M, write[:, n], written[-1])
    h = (left_of_state * q) @ torch.stack(states, dim=1) + (left * (q @ k.mT)) @ torch.stack(written, dim=1)
    return h.flatten(1, 2)[:, :T], M.mT
