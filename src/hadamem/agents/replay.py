"""Experience as it happened: whole episodes, or slices of endless ones, each observation once and in few bytes.

Every environment writes into a lane of its own, a ring of entries. Entry t of an episode holds o_t, a_t, r_t and whether the
step ended the episode for good; one entry more holds the last observation. The previous action and reward, which the agent may
be fed too, are written into the observations anew whenever they are sampled.

The lanes are one file, mapped into memory: the system keeps in memory what there is room for. What the last checkpoint knows is
not overwritten before the next one, thanks to room to spare in each lane. So a run that is killed at any byte finds in the file
all that its checkpoint speaks of, and a checkpoint holds no more than where the episodes lie.
"""

from __future__ import annotations

import math
import os
import pathlib
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..envs import VectorEnvironment
from ..envs.vector import Transition
from ..memory import State
from ..run import RunError, on_disk
from .packing import Packing


class Batch(NamedTuple):
    """B sequences of up to T steps, padded at their ends by copies of their last entry."""

    obs: Tensor  # (B, T + 1, D) float32, the last observation too
    action: Tensor  # (B, T, K) int64 or float32, as the agent gave it
    reward: Tensor  # (B, T) float32
    terminal: Tensor  # (B, T) bool: no value comes after this step
    mask: Tensor  # (B, T) bool: a step to learn from, neither padding nor burn-in
    clock: Tensor  # (B,) int64, the clock of the memory before the first step


#: What is known of a stored sequence: lane, first entry, steps, how many of them are burn-in, and the clock of the first.
LANE, BEGIN, LENGTH, BURN_IN, CLOCK = range(5)


class Replay:
    """A ring of experience; the oldest is forgotten first. All that is there is as likely to be sampled, or by its priority.

    Args:
        env: whose experience it is.
        action_size, discrete: K numbers in an action, and whether they are integers.
        capacity: steps (and last observations) to remember, of all environments together.
        sequence_length: cut episodes into slices of so many steps; None for whole episodes.
        burn_in: steps before a slice that warm up the memory and are not learned from; at most sequence_length.
        most_unsaved: entries that each lane must take between two checkpoints, at least.
        path: of the file; None for one in memory alone.
        state: of a policy in these environments, whose states at the beginnings of slices are kept, too; None to keep none.
    """

    def __init__(
        self,
        env: VectorEnvironment,
        action_size: int,
        discrete: bool,
        capacity: int,
        sequence_length: int | None = None,
        burn_in: int = 0,
        most_unsaved: int = 1024,
        path: pathlib.Path | None = None,
        state: State | None = None,
    ) -> None:
        self.env, self.sequence_length, self.burn_in, self.path = env, sequence_length, burn_in, path
        N = env.num_envs
        self.kept = -(-capacity // N)  # entries of a lane that are not forgotten yet
        self.spare = max(most_unsaved, self.kept // 8)
        self.packing = Packing(env.layout.part("obs").leaves)
        byte_count = len(self.packing.unit)
        self.entry = np.dtype(
            [
                ("bytes", np.uint8, (byte_count,)),
                ("floats", np.float32, (self.packing.width - byte_count,)),
                ("start", np.bool_),
                ("action", np.int32 if discrete else np.float32, (action_size,)),
                ("reward", np.float32),
                ("terminal", np.bool_),
            ]
        )
        self.lanes = np.arange(N)
        self.head = np.zeros(N, np.int64)  # entries ever written
        self.begin, self.skip, self.clock = (np.zeros(N, np.int64) for _ in range(3))  # of the sequence that goes on
        self.sequences = np.zeros((0, 5), np.int64)
        self.priority = np.zeros(0)  # of each of them
        self.states: StoredStates | None = None
        if state is not None:
            assert sequence_length is not None, "whole episodes begin with no state"
            states = None if path is None else path.with_suffix(".states.bin")
            self.states = StoredStates(state, self.kept + self.spare, sequence_length, states)
        self._new: list[tuple[int, ...]] = []
        self._saved_head = self.head.copy()

    @cached_property
    def _entries(self) -> np.ndarray:
        return _mapped(self.path, self.entry, (len(self.lanes), self.kept + self.spare))

    @property
    def _size(self) -> int:
        """Of the file, in bytes."""
        return len(self.lanes) * (self.kept + self.spare) * self.entry.itemsize

    @property
    def unsaved(self) -> int:
        """Entries written since the last checkpoint, in the lane with the most of them."""
        return int((self.head - self._saved_head).max())

    def add(
        self,
        obs: Tensor,
        start: Tensor,
        clock: Tensor,
        action: Tensor,
        step: Transition,
        terminal: Tensor,
        state: State | None = None,
    ) -> None:
        """Write one step of every environment.

        Args:
            obs: (N, D), before the step.
            start: (N,) bool, `obs` is the first of an episode; what was unfinished before is dropped.
            clock: (N,) int64, of the memory that acts, for episodes that start.
            action: (N, K).
            step: what came of it.
            terminal: (N,) bool, no value comes after this step.
            state: of the policy, before the step; for who keeps states.
        """
        began = start.numpy()
        self.begin = np.where(began, self.head, self.begin)
        self.skip = np.where(began, 0, self.skip)
        self.clock = np.where(began, clock.numpy(), self.clock)
        entry = self._write(self.lanes, obs)
        entry["start"], entry["action"] = began, action.numpy().reshape(entry["action"].shape)
        entry["reward"], entry["terminal"] = step.reward, terminal
        self._entries[self.lanes, self.head % self._entries.shape[1]] = entry
        if self.sequence_length is not None:  # a slice ends before this entry, whose observation is its last
            for lane in np.flatnonzero(self.head - self.begin == self.skip + self.sequence_length).tolist():
                self._finish(lane)
                self.clock[lane] += self.head[lane] - self.burn_in - self.begin[lane]
                self.begin[lane], self.skip[lane] = self.head[lane] - self.burn_in, self.burn_in
            if self.states is not None and state is not None:
                ahead = self.skip + self.sequence_length - self.burn_in  # from this one's first entry to that of the next
                next_begins = self.head - self.begin == ahead if self.burn_in else (self.head == self.begin) & ~began
                if next_begins.any():
                    self.states.put(np.flatnonzero(next_begins), self.head[next_begins], state)
        self.head += 1
        ended = np.flatnonzero(step.start)
        if len(ended):
            last = self._write(ended, torch.zeros_like(obs) if step.final_obs is None else step.final_obs)
            self._entries[ended, self.head[ended] % self._entries.shape[1]] = last
            for lane in ended.tolist():
                self._finish(lane)
            self.head[ended] += 1

    def _write(self, lanes: np.ndarray, obs: Tensor) -> np.ndarray:
        """New entries for the observations of some lanes."""
        entry = np.zeros(len(lanes), self.entry)
        columns = obs.numpy()[lanes]
        entry["bytes"] = np.rint(columns[:, self.packing.byte_columns] / self.packing.unit)
        entry["floats"] = columns[:, self.packing.float_columns]
        return entry

    def _finish(self, lane: int) -> None:
        begin, end, skip = self.begin[lane], self.head[lane], self.skip[lane]
        self._new.append((lane, begin, end - begin, skip, self.clock[lane]))

    def settle(self) -> int:
        """Take in the sequences that are complete, forget those that are overwritten, and return how many there are. New ones
        have the highest priority there is."""
        if self._new:
            self.sequences = np.concatenate([self.sequences, np.array(self._new, np.int64)])
            self.priority = np.pad(self.priority, (0, len(self._new)), constant_values=self.priority.max(initial=1e-6))
            self._new.clear()
        oldest = self.head[self.sequences[:, LANE]] - self.kept
        there = self.sequences[:, BEGIN] > oldest  # a slice needs the action before it, too
        if not there.all():
            self.sequences, self.priority = self.sequences[there], self.priority[there]
        return len(self.sequences)

    def sample(self, batch_size: int) -> Batch:
        """Sequences drawn uniformly, with replacement, by torch's global generator.

        Raises:
            ValueError: nothing complete is there.
        """
        self._require_one()
        return self.gather(self.sequences[torch.randint(len(self.sequences), (batch_size,)).numpy()])

    def draw(self, batch_size: int, exponent: float) -> tuple[np.ndarray, Tensor]:
        """Which sequences to learn from, drawn with replacement in proportion to priority^exponent, by torch's generator.

        Returns:
            indices (B,) into `sequences` and `priority`, which hold until the next `settle`; and their probabilities (B,),
            as multiples of the uniform one.

        Raises:
            ValueError: nothing complete is there.
        """
        self._require_one()
        weight = torch.from_numpy(self.priority**exponent)
        drawn = torch.multinomial(weight, batch_size, replacement=True)
        return drawn.numpy(), weight[drawn] / weight.mean()

    def _require_one(self) -> None:
        if not len(self.sequences):
            raise ValueError(
                f"the replay of {self.kept} steps for each environment holds no whole episode; "
                "raise replay_capacity, or set sequence_length for episodes that do not end"
            )

    def beginning(self, sequences: np.ndarray) -> tuple[State | None, Tensor]:
        """What a policy starts from in some rows of `sequences`: its stored state if there are any, but for the clock; and
        whether the first step is an episode's first, (B,) bool."""
        lane, begin = sequences[:, LANE], sequences[:, BEGIN]
        first = torch.from_numpy(self._entries[lane, begin % self._entries.shape[1]]["start"].copy())
        return None if self.states is None else self.states.get(lane, begin), first

    def gather(self, sequences: np.ndarray) -> Batch:
        """The sequences that some rows of `sequences` speak of."""
        B, T = len(sequences), int(sequences[:, LENGTH].max())
        lane, begin, length, burn_in, clock = (column[:, None] for column in sequences.T)
        time = np.arange(-1, T + 1)  # from the step before the first one, for its action and reward
        ring = self._entries.shape[1]
        entries = self._entries[lane, (begin + np.minimum(time, length)) % ring]
        now, before = entries[:, 1:], entries[:, :-1].reshape(-1)

        rows = np.zeros((B * (T + 1), self.env.layout.size), np.float32)
        flat = now.reshape(-1)
        rows[:, self.packing.byte_columns] = flat["bytes"] * self.packing.unit
        rows[:, self.packing.float_columns] = flat["floats"]
        self.env.write_history(before["action"], before["reward"], rows)
        rows[flat["start"], self.packing.width :] = 0  # nothing was before

        taken, step = now[:, :-1], np.arange(T)
        action = torch.from_numpy(np.ascontiguousarray(taken["action"]))
        return Batch(
            obs=torch.from_numpy(rows.reshape(B, T + 1, -1)),
            action=action if action.is_floating_point() else action.long(),
            reward=torch.from_numpy(np.ascontiguousarray(taken["reward"])),
            terminal=torch.from_numpy(np.ascontiguousarray(taken["terminal"])),
            mask=torch.from_numpy((step < length) & (step >= burn_in)),
            clock=torch.from_numpy(clock.squeeze(1).copy()),
        )

    def state_dict(self) -> dict[str, Any]:
        """Where things lie. The things themselves are in the file, and stay there until the next call."""
        self.settle()
        if isinstance(self._entries, np.memmap):
            self._entries.flush()
        if self.states is not None:
            self.states.flush()
        self._saved_head = self.head.copy()
        names = ("sequences", "priority", "head", "begin", "skip", "clock")
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in names}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`, with the same file.

        Raises:
            RunError: a file is missing, or is of another size.
        """
        self._require(self.path, self._size)
        if self.states is not None:
            self._require(self.states.path, self.states.size)
        for name, value in saved.items():
            setattr(self, name, value.cpu().numpy().copy())
        if "priority" not in saved:  # an older checkpoint, of an agent that draws uniformly
            self.priority = np.ones(len(self.sequences))
        self._saved_head = self.head.copy()

    @staticmethod
    def _require(path: pathlib.Path | None, size: int) -> None:
        if path is None or not path.is_file() or path.stat().st_size != size:
            raise RunError(f"{path} must be the replay of this run, with {size:,} bytes; without it the training cannot go on")


class StoredStates:
    """States of a policy at the beginnings of slices, in a ring for every lane, as long as that of the steps.

    A slot is as many entries as a slice has steps: no two slices of a lane begin in the same one.

    Args:
        state: of N environments, for its shapes.
        ring: entries in the ring of a lane.
        sequence_length: steps of a slice.
        path: of the file; None for one in memory alone.
    """

    def __init__(self, state: State, ring: int, sequence_length: int, path: pathlib.Path | None) -> None:
        fields = [(name, leaf[:0].cpu().numpy().dtype, tuple(leaf.shape[1:])) for name, leaf in state.items()]
        self.dtype, self.sequence_length, self.path = np.dtype(fields), sequence_length, path
        self.shape = (len(next(iter(state.values()))), ring // sequence_length + 2)

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def _slots(self) -> np.ndarray:
        return _mapped(self.path, self.dtype, self.shape)

    def put(self, lanes: np.ndarray, begin: np.ndarray, state: State) -> None:
        """Keep the states of some lanes, before their entries `begin`."""
        slot = begin // self.sequence_length % self.shape[1]
        for name, leaf in state.items():
            self._slots[name][lanes, slot] = leaf.cpu().numpy()[lanes]

    def get(self, lanes: np.ndarray, begin: np.ndarray) -> State:
        """The states before the entries `begin` of some lanes; where an episode begins, it means nothing."""
        rows = self._slots[lanes, begin // self.sequence_length % self.shape[1]]
        return {name: torch.from_numpy(np.ascontiguousarray(rows[name])) for name in self.dtype.names or ()}

    def flush(self) -> None:
        """Write the file."""
        if isinstance(self._slots, np.memmap):
            self._slots.flush()


def _mapped(path: pathlib.Path | None, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a file, whose content stays if it has that size; without a path, zeros in memory."""
    if path is None:
        return np.zeros(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    with on_disk(path), path.open("ab") as file:  # all of it now: a full disk kills who writes into a hole
        os.truncate(file.fileno(), min(size, os.fstat(file.fileno()).st_size))  # a run of other processes left more
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)
