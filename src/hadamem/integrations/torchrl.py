"""Any memory inside TorchRL: a TensorDict module that replaces its LSTMModule and GRUModule.

    module = MemoryModule("shm", 64, 64, in_key="embed", out_key="features")
    env = TransformedEnv(GymEnv("CartPole-v1"), Compose(InitTracker(), module.make_tensordict_primer()))

`InitTracker` marks the beginnings of episodes. Collectors act step by step, with the state in the tensordict. Under
`torchrl.modules.set_recurrent_mode(True)`, which should be set for losses, whole sequences (B, T) are computed in one call,
from the state at their first steps, with resets where episodes begin within them.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import unravel_key
from torch import Tensor
from torchrl.data import Unbounded
from torchrl.envs import TensorDictPrimer
from torchrl.modules import recurrent_mode

from ..memory import make_memory


class MemoryModule(TensorDictModuleBase):
    """A memory that keeps its state in a tensordict.

    The primer sets the whole state to 0 at the beginning of every episode, also the clock that chooses SHM's random rows. So
    the same step of every episode uses the same row.

    Args:
        memory: name of the memory (see `hadamem list memories`).
        input_size: number of features of the input under `in_key`, (*batch, input_size).
        output_size: number of features of the output under `out_key`, (*batch, output_size).
        size: size of the memory, in its own unit; None: the memory's default.
        in_key: key of the input.
        out_key: key of the output.
        options: further options of the memory.
    """

    def __init__(
        self,
        memory: str,
        input_size: int,
        output_size: int,
        size: int | None = None,
        *,
        in_key: str = "embed",
        out_key: str = "features",
        **options: Any,
    ) -> None:
        super().__init__()
        self.memory = make_memory(memory, input_size, output_size, size, **options)
        leaves = self.memory.initial_state(1)
        # whether the memory has a clock: the primer resets it in every episode, but within a row it would run on
        self._draws = self.memory.begin_at(leaves, torch.zeros(1, dtype=torch.int64)) is not leaves
        self._leaves = {name: ("memory_state", name.replace(".", "-")) for name in leaves}
        self._specs = {self._leaves[name]: _as_real(leaf)[0] for name, leaf in leaves.items()}
        self._complex = {name for name, leaf in leaves.items() if leaf.is_complex()}
        self.in_key, self.out_key = in_key, out_key
        self.in_keys = [in_key, "is_init", *self._leaves.values()]
        self.out_keys = [out_key, *(("next", *key) for key in self._leaves.values())]

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The transform that adds the memory's initial state to the tensordicts of an environment."""
        specs = {unravel_key(key): Unbounded(leaf.shape, dtype=leaf.dtype) for key, leaf in self._specs.items()}
        return TensorDictPrimer(specs, default_value=0.0, expand_specs=True)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """One step for every row, or whole sequences under `set_recurrent_mode(True)`."""
        whole = bool(recurrent_mode())
        rows = tensordict.reshape(-1, tensordict.shape[-1]) if whole else tensordict.reshape(-1).unsqueeze(-1)
        start = rows["is_init"].reshape(rows.shape)
        if whole and self._draws:
            y, state = self._in_pieces(rows, start), {}
        else:
            state = {name: self._as_was(name, rows[key][:, 0]) for name, key in self._leaves.items()}
            y, state = self.memory(rows[self.in_key], state, start)
        tensordict.set(self.out_key, y.reshape((*tensordict.shape, -1)))
        if not whole:
            for name, key in self._leaves.items():
                leaf = _as_real(state[name])
                tensordict.set(("next", *key), leaf.reshape((*tensordict.shape, *leaf.shape[1:])))
        return tensordict

    def _in_pieces(self, rows: TensorDictBase, start: Tensor) -> Tensor:
        """The output of the memory for whole rows, each cut at the beginnings of episodes, where the clock starts again."""
        x, begins = rows[self.in_key], start.clone()
        begins[:, 0] = True
        piece, first = begins.flatten().cumsum(0) - 1, begins.flatten().nonzero().squeeze(-1)
        place = torch.arange(len(piece), device=piece.device) - first[piece]
        shape = len(first), int(place.max()) + 1  # padded to the longest
        state = {name: self._as_was(name, rows[key].flatten(0, 1)[first]) for name, key in self._leaves.items()}
        pieces = x.new_zeros(*shape, x.shape[-1]).index_put((piece, place), x.flatten(0, 1))
        starts = start.new_zeros(shape).index_put((piece, place), start.flatten())
        return self.memory(pieces, state, starts)[0][piece, place]

    def _as_was(self, name: str, leaf: Tensor) -> Tensor:
        return torch.view_as_complex(leaf.contiguous()) if name in self._complex else leaf


def _as_real(leaf: Tensor) -> Tensor:
    """Convert a complex tensor to pairs of real numbers, since TorchRL's specs have no complex numbers."""
    return torch.view_as_real(leaf) if leaf.is_complex() else leaf
