"""Gymnasium spaces as flat float32 vectors.

An observation, however nested, becomes one row of numbers: its leaves stand side by side, and a `Layout` says which
columns belong to which leaf and which of them are images. Letters: N environments, D columns.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces

Kind = Literal["vector", "image"]
Channels = Literal["first", "last"]
_SMALLEST_SCREEN = 16  # pixels: a smaller image is taken for a grid of cells
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_MOST_COLUMNS = 2**31  # a single layer of weights for more columns than this would fill the memory of any machine


@dataclass(frozen=True)
class Leaf:
    """Columns `offset` to `offset + size` of a row: a vector of shape (size,) or an image of shape (C, H, W).

    If `unit` is given, every value is 0 to 255 times this unit, so that a byte can hold it. If `measured`, values are in units
    of the environment's own choice, and networks learn better from them after normalisation. If `codes`, the image is a grid of
    bytes that stand for kinds of things, not for brightness. If `mask`, the leaf has a column for every choice of an action, 1
    if the choice is legal and 0 if not.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    offset: int
    unit: float | None = None
    measured: bool = False
    mask: bool = False
    codes: bool = False

    @cached_property
    def size(self) -> int:
        """Number of columns."""
        return math.prod(self.shape)

    @cached_property
    def columns(self) -> slice:
        """The columns of this leaf in a row."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class Layout:
    """The meaning of the columns of a row: leaves in order, without gaps."""

    leaves: tuple[Leaf, ...]

    @cached_property
    def size(self) -> int:
        """Width D of a row."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def vectors(self) -> tuple[Leaf, ...]:
        """The leaves that are vectors."""
        return tuple(leaf for leaf in self.leaves if leaf.kind == "vector")

    @property
    def images(self) -> tuple[Leaf, ...]:
        """The leaves that are images."""
        return tuple(leaf for leaf in self.leaves if leaf.kind == "image")

    @property
    def mask(self) -> Leaf | None:
        """The leaf that says which actions are legal, if there is one."""
        return next((leaf for leaf in self.leaves if leaf.mask), None)

    def part(self, name: str) -> "Layout":
        """The leaves of one input ("obs", "action" or "reward"), at the columns that they have in the whole row."""
        return Layout(tuple(leaf for leaf in self.leaves if leaf.name.partition(".")[0] == name))


class InvalidValueError(ValueError):
    """A value in one row of a batch is not in its space, or not finite."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


class Encoder:
    """Writes batches of one space into their columns of a float32 buffer.

    Discrete and MultiDiscrete become one-hot, and MultiBinary and Box become unchanged floats. A Box that is a picture
    (three axes and values in 0..255 or 0..1, or two axes of uint8), or a stack of pictures (four axes), becomes (C, H, W).
    The bounds of a picture determine its scale: 0..255 is divided by 255, other values stay unchanged. Pictures with other
    bounds, or with fewer than 16 pixels in height or width, are treated as grids of `codes` if they are bytes, otherwise as
    `measured`. Tuple and Dict may be nested.

    Args:
        space: the space of a single environment.
        name: name of the leaf, and first word of the names of nested leaves ("obs", "obs.position", "obs.0.1").
        offset: first column of the space.
        channels: whether the first or the last axis of pictures holds the channels; None: decided by their shapes.

    Raises:
        ValueError: the space, or a nested one, has no fixed width (Text, Graph, Sequence, ...), or far too many columns.
    """

    def __init__(self, space: spaces.Space[Any], name: str = "obs", offset: int = 0, channels: Channels | None = None) -> None:
        self.leaves: tuple[Leaf, ...] = ()
        self.unclear: list[str] = []  # names of pictures whose channel axis follows neither from the shape nor from `channels`
        self._plan: list[tuple[tuple[Any, ...], Leaf, Write]] = []
        self.sources: list[tuple[spaces.Space[Any], Picture | None]] = []  # of each leaf, in order
        self.paths: list[tuple[Any, ...]] = []  # of each leaf in a nested observation
        self.offset = offset
        for part in _parts(space, (), name, channels):
            own = _leaf_name(name, part.path)
            leaf = Leaf(own, part.kind, part.shape, offset, part.unit, part.measured, codes=part.codes)
            if not leaf.size:  # a Box without numbers
                continue
            if leaf.size > _MOST_COLUMNS:
                raise ValueError(
                    f"{own} is {_at(space, part.path)}, which would take {leaf.size:,} numbers, too many for any network; "
                    "encode it in fewer numbers with a wrapper around the environment"
                )
            offset += leaf.size
            self.leaves += (leaf,)
            self._plan.append((part.path, leaf, part.write))
            self.paths.append(part.path)
            self.sources.append((_at(space, part.path), part.picture))
            if part.unclear:
                self.unclear.append(leaf.name)
        self.end = offset

    def write(self, batch: Any, out: np.ndarray) -> None:
        """Encode a batch, nested as Gymnasium's vector environments nest it, into `out` (N, D) float32.

        Raises:
            InvalidValueError: a category is not in the space, or a value is not finite as float32.
        """
        for path, leaf, write in self._plan:
            value = batch
            for key in path:
                value = value[key]
            value = np.asarray(value)
            if value.dtype.kind == "f" and (wrong := first_not_finite(value)) is not None:
                raise InvalidValueError(wrong[0], f"{leaf.name} holds {value[wrong]}; it must be a finite float32")
            write(value, out[:, leaf.columns])

    def write_checked(self, observations: Any, out: np.ndarray, single: bool) -> None:
        """Like `write`, but for unchecked input: N observations, or, if `single`, one observation as its environment gives it.

        Raises:
            InvalidValueError: see `write`.
            ValueError: a part is missing, or its shape or type is not that of its space.
        """
        N = len(out)
        for (path, leaf, write), (space, _) in zip(self._plan, self.sources, strict=True):
            value = observations
            try:
                for key in path:
                    value = value[key]
                value = np.asarray(value)
            except (IndexError, KeyError, TypeError, ValueError):
                raise ValueError(f"the observation has no {leaf.name}, which must be in {space}") from None
            if single:
                value = value[None]
            if value.shape != (N, *(space.shape or ())):
                given, wanted = (value.shape[1:], space.shape) if single else (value.shape, (N, *(space.shape or ())))
                raise ValueError(f"{leaf.name} has shape {given}; it must have {wanted}, for {space}")
            if value.dtype != (dtype := np.dtype(space.dtype)) and not np.can_cast(value.dtype, dtype, "same_kind"):
                raise ValueError(f"{leaf.name} is {value.dtype}, but its space is {space}")
            if (outside := first_outside(value, dtype)) is not None:
                raise InvalidValueError(outside[0], f"{leaf.name} holds {value[outside]}, which is not in {space}")
            if value.dtype.kind == "f" and (wrong := first_not_finite(value)) is not None:
                raise InvalidValueError(wrong[0], f"{leaf.name} holds {value[wrong]}; it must be a finite float32")
            write(value, out[:, leaf.columns])


def first_not_finite(values: np.ndarray) -> tuple[int, ...] | None:
    """The index of the first float that is not finite as float32; None if there is none."""
    finite = np.isfinite(values) if values.dtype.itemsize <= 4 else np.abs(values) <= _LARGEST_FLOAT32
    return None if np.count_nonzero(finite) == finite.size else tuple(np.argwhere(~finite)[0].tolist())


def first_outside(values: np.ndarray, dtype: np.dtype[Any]) -> tuple[int, ...] | None:
    """The index of the first integer that an integer `dtype` cannot hold; None if there is none, or for another `dtype`."""
    if dtype.kind not in "iu" or np.can_cast(values.dtype, dtype):
        return None
    held = values.astype(dtype) == values
    return None if np.count_nonzero(held) == held.size else tuple(np.argwhere(~held)[0].tolist())


# Writes a batch of one leaf, (N, ...), into its (N, size) columns.
Write = Callable[[np.ndarray, np.ndarray], None]


class _Part(NamedTuple):
    path: tuple[Any, ...]
    kind: Kind
    shape: tuple[int, ...]
    write: Write
    unit: float | None
    measured: bool = False
    unclear: bool = False
    picture: "Picture | None" = None
    codes: bool = False


class Picture(NamedTuple):
    """How a picture is written to columns: whether its last axis holds the channels, and the factor of its values."""

    channels_last: bool
    scale: float


def _leaf_name(name: str, path: tuple[Any, ...]) -> str:
    return ".".join([name, *map(str, path)])


def _at(space: spaces.Space[Any], path: tuple[Any, ...]) -> spaces.Space[Any]:
    for key in path:
        space = space[key]  # type: ignore[index]  # a Dict or Tuple, since the path was found there
    return space


def _parts(space: spaces.Space[Any], path: tuple[Any, ...], name: str, channels: Channels | None) -> Iterator[_Part]:
    where = _leaf_name(name, path)
    if isinstance(space, spaces.Tuple):
        for i, child in enumerate(space.spaces):
            yield from _parts(child, (*path, i), name, channels)
    elif isinstance(space, spaces.Dict):
        for key, child in space.spaces.items():
            yield from _parts(child, (*path, key), name, channels)
    elif isinstance(space, spaces.Discrete):
        yield _Part(path, "vector", (int(space.n),), _one_hot(space, where), 1.0)
    elif isinstance(space, spaces.MultiDiscrete):
        yield _Part(path, "vector", (int(space.nvec.sum()),), _one_hot(space, where), 1.0)
    elif isinstance(space, spaces.Box) and _is_image(space):
        yield _image(space, path, channels)
    elif isinstance(space, spaces.MultiBinary):
        yield _Part(path, "vector", (int(np.prod(space.shape)),), _bits(space, where), 1.0)
    elif isinstance(space, spaces.Box):
        unit = 1.0 if space.dtype == np.uint8 else None
        yield _Part(path, "vector", (int(np.prod(space.shape)),), _flat, unit, measured=True)
    else:
        raise ValueError(
            f"{where} is a {type(space).__name__} space, which has no fixed width; supported are Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Tuple and Dict of these"
        )


def _flat(value: np.ndarray, out: np.ndarray) -> None:
    out[...] = value.reshape(out.shape)


def _bits(space: spaces.MultiBinary, where: str) -> Write:
    def write(value: np.ndarray, out: np.ndarray) -> None:
        _require_below(np.uint64(2), value.reshape(out.shape), value, f"{where} holds", space)
        _flat(value, out)

    return write


def _one_hot(space: spaces.Discrete | spaces.MultiDiscrete, where: str) -> Write:
    """A writer that writes each digit as a one-hot group of columns, side by side."""
    counts = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel().astype(np.int64)
    starts = np.atleast_1d(space.start).ravel().astype(np.int64)
    first_column = np.cumsum(counts) - counts
    limits = counts.astype(np.uint64).squeeze()  # numpy is faster with a single number than with an array of one
    from_zero, single = not starts.any(), len(counts) == 1

    def write(value: np.ndarray, out: np.ndarray) -> None:
        N = len(out)
        digits = value.reshape(N, -1).astype(np.int64, copy=False)  # booleans and uint64 are no column numbers
        digits = digits if from_zero else digits - starts
        _require_below(limits, digits, value, f"{where} holds", space)
        out.fill(0)
        out[np.arange(N)[:, None], digits if single else digits + first_column] = 1

    return write


def _require_below(limits: Any, digits: np.ndarray, values: np.ndarray, what: str, space: spaces.Space[Any]) -> None:
    """Raise an InvalidValueError unless all `digits` (N, K), computed from `values`, are from 0 to `limits` - 1."""
    inside = digits.astype(np.int64, copy=False).view(np.uint64) < limits  # as unsigned, negative numbers are huge
    if np.count_nonzero(inside) < inside.size:
        row, k = np.argwhere(~inside)[0].tolist()
        raise InvalidValueError(row, f"{what} {values[row].ravel()[k]}, which is not in {space}")


def _is_image(space: spaces.Box) -> bool:
    if space.dtype == np.uint8:
        return len(space.shape) in (2, 3, 4)
    return len(space.shape) in (3, 4) and bool((space.low == 0).all()) and _brightest(space) is not None


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three axes holds the channels, and not the first.

    Two neighbouring axes of equal length are height and width. Otherwise the shorter of the first and the last axis holds the
    channels; if these are equally long, the first does.
    """
    first, middle, last = shape
    if (first == middle) != (middle == last):
        return first == middle
    return last < first


def _brightest(space: spaces.Box) -> float | None:
    """The value of full brightness, 255 or 1, if the upper bound of the space is one of these everywhere; otherwise None."""
    return next((value for value in (255.0, 1.0) if (space.high == value).all()), None)


def _image(space: spaces.Box, path: tuple[Any, ...], channels: Channels | None) -> _Part:
    stack, single = (space.shape[:1], space.shape[1:]) if len(space.shape) == 4 else ((), space.shape)
    unclear = len(single) == 3 and single[0] == single[2]
    if len(single) == 2:
        single, last = (1, *single), False
    elif last := _channels_last(single) if channels is None else channels == "last":
        single = (single[2], single[0], single[1])
    shape = (int(np.prod(stack)) * single[0], *single[1:])  # a stack has the channels of all its pictures
    brightest = _brightest(space)
    scale = 1 / (brightest or 1.0)

    def write(value: np.ndarray, out: np.ndarray) -> None:
        if last:
            value = np.moveaxis(value, -1, -3)
        pixels = out.reshape(len(out), *stack, *single)  # splits the columns' own axis, so this is a view
        np.multiply(value.reshape(pixels.shape), scale, out=pixels, dtype=np.float32, casting="same_kind")

    # a grid of codes, such as MiniGrid's 0 to 10, uses a small part of the range of its bytes
    is_grid, is_bytes = brightest is None or min(shape[1:]) < _SMALLEST_SCREEN, space.dtype == np.uint8
    return _Part(
        path,
        "image",
        shape,
        write,
        unit=scale if is_bytes else None,
        measured=is_grid and not is_bytes,
        unclear=channels is None and unclear,
        picture=Picture(last, scale),
        codes=is_grid and is_bytes,
    )
