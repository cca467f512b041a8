"""Reference definitions of the recurrences: loops over time, for any dtype and device. All backends must agree with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: The calibrations by name, each with the names and dimensions of its factors.
CALIBRATIONS: dict[str, dict[str, str]] = {
    "ones": {},
    "scalar": {"f": "BT"},
    "column": {"g": "BTK"},
    "tanh_outer": {"u": "BTV", "w": "BTK"},
    "exp_outer": {"d": "BTV", "A": "VK"},
    "dense": {"C": "BTVK"},
}


def calibration_matrix(calibration: str, factors: list[Tensor]) -> Tensor | float:
    """C (..., V, K), or a tensor that broadcasts to it, from factors with any leading dimensions (paper: Section 3, Eq. 4)."""
    match calibration:
        case "ones":
            return 1.0
        case "scalar":
            return factors[0][..., None, None]
        case "column":
            return factors[0][..., None, :]
        case "tanh_outer":
            return 1 + torch.tanh(factors[0][..., :, None] * factors[1][..., None, :])
        case "exp_outer":
            return torch.exp(-factors[0][..., :, None] * factors[1])
        case "dense":
            return factors[0]
    raise ValueError(calibration)


def hadamard_memory(
    calibration: str,
    factors: list[Tensor],
    a: Tensor,
    k: Tensor,
    q: Tensor,
    start: Tensor,
    state: Tensor,
    clamp: float | None = None,
) -> tuple[Tensor, Tensor]:
    """M_t = M_{t-1} * C_t + a_t k_t^T, clamped; h_t = M_t q_t; M_{t-1} is zero where start[t]. See the public function."""
    M, h, dims = state, [], CALIBRATIONS[calibration].values()
    for t in range(a.shape[1]):
        M = torch.where(start[:, t, None, None], 0, M)
        C = calibration_matrix(calibration, [f[:, t] if "T" in d else f for f, d in zip(factors, dims, strict=True)])
        M = M * C + a[:, t, :, None] * k[:, t, None, :]
        if clamp is not None:
            M = M.clamp(-clamp, clamp)
        h.append(torch.einsum("bvk,bk->bv", M, q[:, t]))
    return torch.stack(h, dim=1), M.clone()  # a copy that may be changed in place: gradients need the last M


def linear_recurrence(decay: Tensor, x: Tensor, start: Tensor, state: Tensor) -> Tensor:
    """y_t = decay_t * y_{t-1} + x_t; y_{t-1} is zero where start[t]. Shapes as in the public function."""
    y, ys = state, []
    for t in range(x.shape[1]):
        y = torch.where(start[:, t, None], 0, y)
        y = (decay if decay.dim() == 1 else decay[:, t]) * y + x[:, t]
        ys.append(y)
    return torch.stack(ys, dim=1)


def delta_memory(
    v: Tensor, k: Tensor, q: Tensor, beta: Tensor, log_decay: Tensor, start: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """M_t = g_t M_{t-1} + b_t (v_t - g_t M_{t-1} k_t) k_t^T, h_t = M_t q_t; M_{t-1} is zero where start[t]."""
    M, h = state, []
    for t in range(v.shape[1]):
        M = torch.where(start[:, t, None, None], 0, M) * log_decay[:, t, None, None].exp()
        u = beta[:, t, None] * (v[:, t] - torch.einsum("bvk,bk->bv", M, k[:, t]))
        M = M + u[:, :, None] * k[:, t, None, :]
        h.append(torch.einsum("bvk,bk->bv", M, q[:, t]))
    return torch.stack(h, dim=1), M.clone()  # a copy that may be changed in place: gradients need the last M


def slstm_empty(like: Tensor) -> Tensor:
    """An sLSTM's h, c, n, m before the first step: (4, 1, 1), in the dtype and on the device of `like`."""
    return torch.tensor([0, 0, 0, -torch.inf], dtype=like.dtype, device=like.device)[:, None, None]


def slstm(x: Tensor, recurrent: Tensor, start: Tensor, state: Tensor, exponential_forget: bool) -> tuple[Tensor, Tensor]:
    """The equations of `ops.slstm`, with the same shapes as there."""
    outputs = []
    for t in range(x.shape[1]):
        h, c, n, m = torch.where(start[:, t, None, None, None], slstm_empty(state), state).unbind(1)
        z, o, i, f = (x[:, t] + torch.einsum("bnd,ndge->bnge", h, recurrent.unflatten(2, (4, -1)))).unbind(2)
        log_f = f if exponential_forget else torch.nn.functional.logsigmoid(f)
        new_m = torch.maximum(log_f + m, i)
        i, f = torch.exp(i - new_m), torch.exp(log_f + m - new_m)
        c, n = f * c + i * torch.tanh(z), f * n + i
        h = torch.sigmoid(o) * c / n
        outputs.append(h)
        state = torch.stack([h, c, n, new_m], dim=1)
    return torch.stack(outputs, dim=1), state


def gradients(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor], d_outputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of all inputs of a function, from the gradients of its outputs, which may be batched by a transform."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        outputs = function(*leaves)
    return torch.autograd.grad(outputs, leaves, d_outputs, materialize_grads=True, allow_unused=True)
