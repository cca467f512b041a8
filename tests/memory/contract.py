"""Every memory that the contract is held to, and what its tests share."""

from __future__ import annotations

import torch
from torch import Tensor

from hadamem.memory import MEMORIES, Memory, State, make_memory

D, OUT, SIZE = 5, 6, 8

#: Every memory by name, and options that change its arithmetic.
CASES: dict[str, tuple[str, dict]] = {name: (name, {}) for name in MEMORIES}
CASES |= {
    "shm fixed theta": ("shm", {"theta": "fixed"}),
    "shm learned theta": ("shm", {"theta": "learned"}),
    "shm softmax, read norm, shortcut": ("shm", {"feature_map": "softmax", "read_norm": True, "shortcut": True}),
    "two layers of shm": ("shm", {"layers": 2}),
    "two layers of mamba": ("mamba", {"layers": 2}),
    "shm C = 1": ("shm", {"calibration": "ones"}),
    "shm random C": ("shm", {"calibration": "random"}),
    "shm fixed C": ("shm", {"calibration": "fixed"}),
    "shm neural C": ("shm", {"calibration": "neural"}),
    "shm heads, convolution": ("shm", {"heads": 3, "convolution": 4, "theta": "learned"}),
    "shm two heads": ("shm", {"heads": 2}),
    "shm lags": ("shm", {"heads": 3, "lag_heads": 2, "theta": "centred"}),
    "shm lags, mirror": ("shm", {"heads": 3, "lag_heads": 1, "mirror_heads": 1}),
    "shm epochs": ("shm", {"heads": 4, "lag_heads": 1, "mirror_heads": 1, "epoch_heads": 1, "theta": "stable"}),
    "shm parallel": ("shm", {"backend": "parallel"}),
    "shm centred": ("shm", {"theta": "centred"}),
    "shm stable": ("shm", {"theta": "stable", "heads": 2}),
    "shm reference": ("shm", {"backend": "reference"}),
    "indrnn tanh": ("indrnn", {"activation": "tanh"}),
    "slstm exponential forget gate": ("slstm", {"forget_gate": "exponential"}),
    "fwp sum": ("fwp", {"rule": "sum"}),
    "delta_net heads": ("delta_net", {"heads": 3}),
    "framestack": ("framestack", {"frames": 6}),  # the tests of memory look five steps back
    "gpt rotary, deep, short window": ("gpt", {"positions": "rotary", "window": 5, "layers": 2}),
    "gtrxl deep, short window": ("gtrxl", {"window": 5, "layers": 2}),
    "gtrxl no window": ("gtrxl", {"window": 1}),
}
REMEMBERS = [case for case in CASES if case not in ("mlp", "positional_mlp", "gtrxl no window")]

#: Accuracy to reach in the recall task, if less than 0.6 (chance is 0.25). Units that see of the past only themselves, with a
#: real factor, are slow to learn how to tell the fourth step back from the third.
RECALL = {"mingru": 0.45, "indrnn": 0.45, "indrnn tanh": 0.45}


def build(case: str, dtype: torch.dtype = torch.float64) -> Memory:
    torch.manual_seed(3)
    name, options = CASES[case]
    return make_memory(name, D, OUT, SIZE, **options).to(dtype)


def some_state(memory: Memory, batch_size: int) -> State:
    """A state as it is in the middle of a sequence."""
    x = torch.randn(batch_size, 7, D, dtype=next(memory.parameters()).dtype)
    return {name: leaf.detach() for name, leaf in memory(x)[1].items()}


def differentiable(leaf: Tensor) -> bool:
    return leaf.is_floating_point() or leaf.is_complex()


def starts(B: int, T: int, probability: float = 0.15) -> Tensor:
    return torch.rand(B, T) < probability


def close(got: Tensor | State, want: Tensor | State) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
