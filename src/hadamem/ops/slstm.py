"""The recurrence of xLSTM's scalar memory: a loop over steps with a hand-written backward pass, in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks, reference
from .reference import slstm_empty


def slstm(
    x: Tensor, recurrent: Tensor, start: Tensor, state: Tensor, exponential_forget: bool = False
) -> tuple[Tensor, Tensor]:
    """xLSTM's scalar memory (Beck et al. 2024, arXiv:2405.04517, Section 2.2).

        z, o, i, f = x_t + R h_{t-1}
        f = log sigmoid(f), or f itself for an exponential forget gate
        m_t = max(f + m_{t-1}, i)
        c_t = exp(f + m_{t-1} - m_t) c_{t-1} + exp(i - m_t) tanh(z)
        n_t = exp(f + m_{t-1} - m_t) n_{t-1} + exp(i - m_t)
        h_t = sigmoid(o) c_t / n_t

    All are vectors of N heads with d features each, and R has one block for each head. An empty memory has m = -inf, so that
    the first c / n is tanh(z) for any i.

    Args:
        x: the contribution of the input to z, o, i, f, (B, T, N, 4, d).
        recurrent: R, (N, d, 4 d).
        start: (B, T) bool, where the state is replaced by the empty state before step t (by selection).
        state: h, c, n, m before the first step, (B, 4, N, d).
        exponential_forget: whether the forget gate is exp(f) instead of sigmoid(f).

    Returns:
        h (B, T, N, d), and h, c, n, m after the last step. Computed in the dtype of `state`; h in that of `x`.
    """
    with checks.wide_arithmetic(x):
        run = _SLSTM.apply if checks.values_known(x, recurrent, start, state) else reference.slstm
        h, last = run(x.to(state.dtype), recurrent.to(state.dtype), start, state, exponential_forget)
    return h.to(x.dtype), last


class _SLSTM(torch.autograd.Function):
    """The recurrence with its gradient. Internally, heads come before rows, (N, B, d), for one batched product per step. All
    operations that do not depend on the previous step are outside the loops."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, recurrent: Tensor, start: Tensor, state: Tensor, exponential_forget: bool) -> Any:
        B, T, N, _, d = x.shape
        gates = x.new_empty(T, N, B, 4, d)  # tanh(z), sigmoid(o), exp(i - m) and exp(f + m_{t-1} - m)
        slope = x.new_empty(T, N, B, d)  # derivative of log sigmoid at f
        states = x.new_empty(T + 1, 4, N, B, d)
        states[0] = state.permute(1, 2, 0, 3)
        empty, resets = slstm_empty(x)[..., None], start.any(dim=0).tolist()
        inputs = x.flatten(3).permute(1, 2, 0, 3)
        for t in range(T):
            h0, c0, n0, m0 = torch.where(start[:, t, None], empty, states[t]) if resets[t] else states[t]
            h, c, n, m = states[t + 1]
            torch.baddbmm(inputs[t], h0, recurrent, out=gates[t].flatten(2))
            z, o, i, f = gates[t].unbind(2)
            if not exponential_forget:
                torch.sigmoid(-f, out=slope[t])
            log_f = f if exponential_forget else F.logsigmoid(f)
            torch.add(log_f, m0, out=f)
            torch.maximum(f, i, out=m)
            gates[t][:, :, 2:].sub_(m[:, :, None]).exp_()
            z.tanh_()
            o.sigmoid_()
            torch.mul(i, z, out=c).addcmul_(f, c0)
            torch.addcmul(i, f, n0, out=n)
            torch.div(c, n, out=h).mul_(o)
        ctx.save_for_backward(recurrent, start, gates, slope, states)
        ctx.exponential_forget, ctx.resets = exponential_forget, resets
        return states[1:, 0].permute(2, 0, 1, 3).contiguous(), states[T].permute(2, 0, 1, 3).contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> Any:
        recurrent, start, gates, slope, states = ctx.saved_tensors
        T = gates.shape[0]
        before = states[:-1]
        if any(ctx.resets):
            before = torch.where(start.T[:, None, None, :, None], 0, before)  # the value for m is not used
        z, o, i, f = gates.unbind(3)
        h, _, n, _ = states[1:].unbind(1)
        # the factors of each step's chain rule, for all steps at once
        to_c = o / n
        to_n = -h / n
        to_o = h * (1 - o)
        to_z = i * (1 - z * z)
        i_c, f_c, f_n = i * z, f * before[:, 1], f * before[:, 2]
        kept = (f == 1).to(f.dtype)  # m came from f + m_{t-1}, not from i
        dgates = torch.empty_like(gates)
        dy = dy.permute(1, 2, 0, 3)
        backwards = recurrent.mT
        dstate = dlast.permute(1, 2, 0, 3).clone()
        for t in reversed(range(T)):
            dh, dc, dn, dm = dstate
            dh += dy[t]
            dz, do, di, df = dgates[t].unbind(2)
            torch.mul(dh, to_o[t], out=do)
            dc.addcmul_(dh, to_c[t])
            dn.addcmul_(dh, to_n[t])
            torch.mul(dc, to_z[t], out=dz)
            torch.addcmul(dn * i[t], dc, i_c[t], out=di)
            torch.mul(dn, f_n[t], out=df).addcmul_(dc, f_c[t])
            dm -= di
            dm -= df
            df.addcmul_(dm, kept[t])
            di.add_(dm).addcmul_(dm, kept[t], value=-1)
            dm.copy_(df)
            dstate[1:3] *= f[t]
            if not ctx.exponential_forget:
                df *= slope[t]
            torch.bmm(dgates[t].flatten(2), backwards, out=dh)
            if ctx.resets[t]:
                dstate = torch.where(start[:, t, None], 0, dstate)
        dinputs = dgates.flatten(3)
        drecurrent = torch.einsum("tnbd,tnbe->nde", before[:, 0], dinputs)
        return dgates.permute(2, 0, 1, 3, 4), drecurrent, None, dstate.permute(2, 0, 1, 3), None
