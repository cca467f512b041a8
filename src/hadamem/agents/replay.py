"""A replay buffer of whole episodes, or of slices of long ones. Each observation is stored once, as compactly as possible.

Every environment writes into its own lane, a ring of entries. Entry t of an episode holds o_t, a_t, r_t and whether the episode
terminated with this step; one further entry holds the last observation. The previous action and reward, which may be inputs of
the agent, are not stored in observations but added to them when they are sampled.

The lanes are one memory-mapped file, so the operating system decides how much of it stays in memory. Each lane has spare room,
so that entries that the last checkpoint refers to are not overwritten before the next checkpoint. A run that is killed at any
time therefore finds in the file everything that its checkpoint refers to, and a checkpoint only holds where the episodes lie.
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

from ..disk import on_disk
from ..envs import VectorEnvironment
from ..envs.vector import Transition
from ..memory import State
from ..run import RunError
from .packing import Packing


class Batch(NamedTuple):
    """B sequences of up to T steps, padded at their ends with copies of their last entry."""

    obs: Tensor  # (B, T + 1, D) float32, including the observation after the last step
    action: Tensor  # (B, T, K) int64 or float32, as the agent gave it
    reward: Tensor  # (B, T) float32
    terminal: Tensor  # (B, T) bool: the value after this step is 0
    mask: Tensor  # (B, T) bool: a step to learn from, neither padding nor burn-in
    clock: Tensor  # (B,) int64, the clock of the memory before the first step


#: Columns of `Replay.sequences`: lane, first entry, number of steps, number of burn-in steps, clock of the first step.
LANE, BEGIN, LENGTH, BURN_IN, CLOCK = range(5)


class Replay:
    """A ring buffer that overwrites the oldest steps first. Sequences are drawn uniformly, or in proportion to a priority.

    Args:
        env: the environments whose steps are stored.
        action_size: K, how many numbers an action has.
        discrete: whether actions are integers.
        capacity: steps (and last observations) that the buffer holds, of all environments together.
        sequence_length: number of steps of the slices that episodes are cut into; None: whole episodes.
        burn_in: steps before a slice that warm up the memory and are not learned from; at most sequence_length.
        most_unsaved: least number of entries that each lane has room for between two checkpoints.
        path: path of the file; None: the buffer is kept in memory.
        state: state of a policy in these environments, for its shapes; the policy's states at the beginnings of slices are then
            stored, too. None: no states are stored.
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
        self.kept = -(-capacity // N)  # number of the latest entries of a lane that may be sampled
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
        self.begin, self.skip, self.clock = (np.zeros(N, np.int64) for _ in range(3))  # of each lane's unfinished sequence
        self.sequences = np.zeros((0, 5), np.int64)
        self.priority = np.zeros(0)  # of each sequence
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
        """Size of the file, in bytes."""
        return len(self.lanes) * (self.kept + self.spare) * self.entry.itemsize

    @property
    def unsaved(self) -> int:
        """Entries written since the last checkpoint, in the lane with the most such entries."""
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
            obs: (N, D), the observations before the step.
            start: (N,) bool, whether `obs` is the first of an episode; an unfinished episode before it is dropped.
            clock: (N,) int64, the clock of the acting memory, used for episodes that start.
            action: (N, K).
            step: the result of the step.
            terminal: (N,) bool, whether the value after this step is 0.
            state: state of the policy before the step; needed if the replay stores states.
        """
        began = start.numpy()
        self.begin = np.where(began, self.head, self.begin)
        self.skip = np.where(began, 0, self.skip)
        self.clock = np.where(began, clock.numpy(), self.clock)
        entry = self._write(self.lanes, obs)
        entry["start"], entry["action"] = began, action.numpy().reshape(entry["action"].shape)
        entry["reward"], entry["terminal"] = step.reward, terminal
        self._entries[self.lanes, self.head % self._entries.shape[1]] = entry
        if self.sequence_length is not None:  # this entry's observation may be the last one of a slice, which then ends
            for lane in np.flatnonzero(self.head - self.begin == self.skip + self.sequence_length).tolist():
                self._finish(lane)
                self.clock[lane] += self.head[lane] - self.burn_in - self.begin[lane]
                self.begin[lane], self.skip[lane] = self.head[lane] - self.burn_in, self.burn_in
            if self.states is not None and state is not None:
                ahead = self.skip + self.sequence_length - self.burn_in  # entries from this slice's start to the next one's
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
        """Add the sequences that have become complete, drop those that are overwritten, and return the number of sequences. New
        sequences get the highest priority of all present ones."""
        if self._new:
            self.sequences = np.concatenate([self.sequences, np.array(self._new, np.int64)])
            self.priority = np.pad(self.priority, (0, len(self._new)), constant_values=self.priority.max(initial=1e-6))
            self._new.clear()
        oldest = self.head[self.sequences[:, LANE]] - self.kept
        there = self.sequences[:, BEGIN] > oldest  # not >=: a slice also needs the action before its first step
        if not there.all():
            self.sequences, self.priority = self.sequences[there], self.priority[there]
        return len(self.sequences)

    def sample(self, batch_size: int) -> Batch:
        """A batch of sequences drawn uniformly, with replacement, by torch's global generator.

        Raises:
            ValueError: the replay holds no complete sequence.
        """
        self._require_one()
        return self.gather(self.sequences[torch.randint(len(self.sequences), (batch_size,)).numpy()])

    def draw(self, batch_size: int, exponent: float) -> tuple[np.ndarray, Tensor]:
        """Draw sequences with replacement, in proportion to priority^exponent, by torch's global generator.

        Returns:
            indices (B,) into `sequences` and `priority`, valid until the next `settle`; and the probabilities (B,) of the drawn
            sequences, as multiples of the uniform probability.

        Raises:
            ValueError: the replay holds no complete sequence.
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
        """How a policy starts some rows of `sequences`: the stored states, whose clock the caller has to set (None if no states
        are stored), and whether the first step of each sequence is the first of an episode, (B,) bool."""
        lane, begin = sequences[:, LANE], sequences[:, BEGIN]
        first = torch.from_numpy(self._entries[lane, begin % self._entries.shape[1]]["start"].copy())
        return None if self.states is None else self.states.get(lane, begin), first

    def gather(self, sequences: np.ndarray) -> Batch:
        """The batch of the sequences that some rows of `sequences` describe."""
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
        rows[flat["start"], self.packing.width :] = 0  # at the first step of an episode, there is no previous step

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
        """The index of the sequences. Their entries are in the file, and are not overwritten before the next call."""
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
            RunError: a file is missing, or has the wrong size.
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
            raise RunError(f"{path} must be the replay of this run, with {size:,} bytes; without it the run cannot continue")


class StoredStates:
    """States of a policy at the beginnings of slices, in a ring of slots for each lane that spans the lane's ring of entries.

    A slot stands for as many entries as a slice has steps, so that no two slices of a lane begin in the same slot.

    Args:
        state: state of N environments, for its shapes.
        ring: number of entries in the ring of a lane.
        sequence_length: steps of a slice.
        path: path of the file; None: the states are kept in memory.
    """

    def __init__(self, state: State, ring: int, sequence_length: int, path: pathlib.Path | None) -> None:
        fields = [(name, leaf[:0].cpu().numpy().dtype, tuple(leaf.shape[1:])) for name, leaf in state.items()]
        self.dtype, self.sequence_length, self.path = np.dtype(fields), sequence_length, path
        self.shape = (len(next(iter(state.values()))), ring // sequence_length + 2)

    @property
    def size(self) -> int:
        """Size of the file, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def _slots(self) -> np.ndarray:
        return _mapped(self.path, self.dtype, self.shape)

    def put(self, lanes: np.ndarray, begin: np.ndarray, state: State) -> None:
        """Store the states of some lanes before their entries `begin`."""
        slot = begin // self.sequence_length % self.shape[1]
        for name, leaf in state.items():
            self._slots[name][lanes, slot] = leaf.cpu().numpy()[lanes]

    def get(self, lanes: np.ndarray, begin: np.ndarray) -> State:
        """The states before the entries `begin` of some lanes; not meaningful where an episode begins."""
        rows = self._slots[lanes, begin // self.sequence_length % self.shape[1]]
        return {name: torch.from_numpy(np.ascontiguousarray(rows[name])) for name in self.dtype.names or ()}

    def flush(self) -> None:
        """Write the states to the file."""
        if isinstance(self._slots, np.memmap):
            self._slots.flush()


def _mapped(path: pathlib.Path | None, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An array mapped to a file, which keeps its content if its size is right; without a path, an array of zeros in memory."""
    if path is None:
        return np.zeros(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    with on_disk(path), path.open("ab") as file:  # allocate it all now: a disk that is full later would kill the process
        os.truncate(file.fileno(), min(size, os.fstat(file.fileno()).st_size))  # a run of fewer processes had a larger file
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)
