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

    The value that the memory holds at k_t is moved by the fraction b_t towards v_t, and the memory is read as h_t = M_t q_t.
    Written as M_t = g_t M_{t-1} + u_t k_t^T, the u_t of a chunk solve a triangular system (the WY representation of the paper),
    so that only the chunks are computed one after the other.

    Args:
        v: the values that are written, (B, T, V).
        k: the keys under which they are written, (B, T, K). Keep b_t |k_t|^2 within [0, 2], or M grows without bound.
        q: the queries with which the memory is read, (B, T, K).
        beta: b, the strength of each write, (B, T).
        log_decay: log g, (B, T), finite and at most 0. Default: 0, nothing is forgotten.
        start: (B, T) bool; where true, M_{t-1} is replaced by zero before step t (not even NaN passes). Default: no resets.
        state: M before the first step, (B, V, K). Default: zero.
        chunk: number of steps that are solved together.

    Returns:
        h (B, T, V) in the dtype of `v`, and the last M (B, V, K). float16 and bfloat16 are computed in float32, and M stays
        float32. After NaN or inf in an argument, all results in the same episode are NaN.

    Raises:
        ValueError: a shape or dtype does not fit; the message names the argument, and gives its shape or dtype and the required
            one.
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
    """`_chunked`, but NaN and inf do not spread to other episodes.

    The matrix products weight steps of other episodes by zero, and NaN times zero is NaN. So NaN and inf are removed before,
    and NaN is put back after. Overflows on the way are detected by large results (except in torch.compile and torch.func), and
    the computation is then repeated step by step.
    """
    t = torch.arange(start.shape[1], device=start.device)
    finite = sum((x.sum(-1) for x in (v, k, q)), beta + log_decay).isfinite()
    before = torch.where(state.sum((1, 2)).isfinite(), -2, -1)[:, None]
    spoilt = torch.where(finite, before, t).cummax(dim=1).values  # last step that is not finite; -1: the state, -2: none
    first = torch.where(start, t, -1).cummax(dim=1).values  # first step of the episode
    bad = (spoilt >= first)[..., None]
    v, k, q, beta, log_decay, state = (torch.nan_to_num(x, 0, 0, 0) for x in (v, k, q, beta, log_decay, state))
    h, last = _chunked(v, k, q, beta, log_decay, start, state, chunk)
    # an overflow in one episode makes NaN in all; it is possible if numbers are this large, also in their gradients
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
    # the fraction that is left at step t of a write at step s, and of the state before the chunk
    joined = (episode[..., :, None] == episode[..., None, :]).tril()
    left = torch.where(joined, log_g[..., :, None] - log_g[..., None, :], -torch.inf).exp()
    left_of_state = torch.where(episode == 0, log_g, -torch.inf).exp()[..., None]

    # u_t = b_t (v_t - M k_t), where M holds the u_s of the chunk before t: (1 + A) u = b v - b left_of_state k state
    A = beta[..., None] * left * (k @ k.mT)
    right = beta[..., None] * torch.cat([v, left_of_state * k], dim=-1)
    solved = torch.linalg.solve_triangular(A, right, upper=False, unitriangular=True)  # ignores A's diagonal
    own, from_state = solved.split([V, k.shape[3]], dim=-1)

    M, states, written = state.mT, [], []  # M as (B, K, V)
    write = (left[..., -1, :, None] * k).mT
    for n in range(v.shape[1]):
        states.append(M)
        written.append(torch.baddbmm(own[:, n], from_state[:, n], M, alpha=-1))
        M = torch.baddbmm(left_of_state[:, n, -1:] * M, write[:, n], written[-1])
    h = (left_of_state * q) @ torch.stack(states, dim=1) + (left * (q @ k.mT)) @ torch.stack(written, dim=1)
    return h.flatten(1, 2)[:, :T], M.mT
