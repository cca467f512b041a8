"""Compact storage of observation rows: values that are 0 to 255 times a unit, such as pixels, take one byte instead of four."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs import Layout, Leaf


class Packing:
    """Which columns of a row are stored as bytes.

    Args:
        leaves: leaves of a row, which lie side by side from its first column on.

    Attributes:
        width: number of columns.
        byte_columns, float_columns: the columns stored as bytes and as floats: a slice if they are adjacent, which is much
            faster, otherwise an array of column numbers.
        unit: (number of byte columns,) float32, the value of one unit of each byte.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        units = [np.full(leaf.size, np.nan if leaf.unit is None else leaf.unit, np.float32) for leaf in leaves]
        unit = np.concatenate([np.zeros(0, np.float32), *units])
        is_byte = ~np.isnan(unit)
        self.width, self.unit = len(unit), unit[is_byte]
        self.byte_columns, self.float_columns = _columns(is_byte), _columns(~is_byte)


class PackedRows:
    """Rows (B, T, D) of observations, indexed like a tensor: writing packs the rows, and reading unpacks them, without loss.

    Args:
        shape: B and T.
        layout: layout of the D columns.
        device: device of the stored rows.
    """

    def __init__(self, shape: tuple[int, int], layout: Layout, device: torch.device) -> None:
        self.packing = Packing(layout.leaves)
        self.unit = torch.from_numpy(self.packing.unit).to(device)
        self.bytes = torch.zeros(*shape, len(self.unit), dtype=torch.uint8, device=device)
        self.floats = torch.zeros(*shape, self.packing.width - len(self.unit), device=device)
        self.shape = torch.Size((*shape, self.packing.width))

    def __setitem__(self, index: Any, rows: Tensor) -> None:
        self.bytes[index] = torch.round(rows[..., self.packing.byte_columns] / self.unit).to(torch.uint8)
        self.floats[index] = rows[..., self.packing.float_columns]

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, tuple) and isinstance(index[0], EllipsisType):  # some columns of all rows
            return torch.stack([self._column(int(column)) for column in index[1]], dim=-1)
        small, floats = self.bytes[index], self.floats[index]
        rows = floats.new_empty(*floats.shape[:-1], self.packing.width)
        rows[..., self.packing.byte_columns] = small * self.unit
        rows[..., self.packing.float_columns] = floats
        return rows

    def part(self, rows: slice) -> PackedRows:
        """Some of the B rows, in the same memory."""
        part = copy(self)
        part.bytes, part.floats = self.bytes[rows], self.floats[rows]
        part.shape = torch.Size((len(part.bytes), *self.shape[1:]))
        return part

    def _column(self, column: int) -> Tensor:
        where = np.arange(self.packing.width)
        at = np.flatnonzero(where[self.packing.byte_columns] == column)
        if len(at):
            return self.bytes[..., at[0]] * self.unit[at[0]]
        return self.floats[..., np.flatnonzero(where[self.packing.float_columns] == column)[0]]


def rows_for(shape: tuple[int, int], layout: Layout, device: torch.device) -> Tensor | PackedRows:
    """Make a buffer for rows (B, T, D), which is packed if the observations contain pictures, where it saves most."""
    if any(leaf.unit is not None for leaf in layout.images):
        return PackedRows(shape, layout, device)
    return torch.zeros(*shape, layout.size, device=device)


def _columns(chosen: np.ndarray) -> slice | np.ndarray:
    """The numbers of the chosen columns, as a slice if the columns are adjacent."""
    columns = np.flatnonzero(chosen)
    first, last = (columns[0], columns[-1] + 1) if len(columns) else (0, 0)
    return slice(first, last) if last - first == len(columns) else columns
