"""The encoder from flat observations to embeddings, and the sine code of the step within an episode."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..envs import Layout, Leaf
from ..memory.base import clamped

_MEANINGS = 16  # features of each code of a grid


class ObservationEncoder(nn.Module):
    """Encodes observations of any layout: a linear map for vectors plus convolutions for images, then a layer norm.

    Args:
        layout: which columns of the observation are vectors and which are images; other columns are ignored.
        size: number of features of the embedding.
        after: module applied to the sum instead of a layer norm.
    """

    def __init__(self, layout: Layout, size: int, after: nn.Module | None = None) -> None:
        super().__init__()
        self.layout = layout
        if not layout.size:
            raise ValueError("the observation space holds no numbers; an agent needs at least one, even if it is constant")
        vector_size = sum(leaf.size for leaf in layout.vectors)
        self.vector = nn.Linear(vector_size, size) if vector_size else None
        self.images = nn.ModuleList(_image_encoder(leaf, size) for leaf in layout.images)
        self.after = nn.LayerNorm(size, elementwise_affine=False) if after is None else after

    def forward(self, obs: Tensor) -> Tensor:
        """Whole rows of observations (B, T, D) -> (B, T, size)."""
        parts = []
        if self.vector is not None:
            columns = [obs[..., leaf.columns] for leaf in self.layout.vectors]
            parts.append(self.vector(columns[0] if len(columns) == 1 else torch.cat(columns, dim=-1)))
        for leaf, encoder in zip(self.layout.images, self.images, strict=True):
            pixels = obs[..., leaf.columns].reshape(-1, *leaf.shape)
            parts.append(encoder(pixels).unflatten(0, obs.shape[:2]))
        return self.after(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])


class _Codes(nn.Module):
    """Embeds grids of codes, in which 6 is not more than 5 but another thing: (N, C, H, W) -> (N, C + _MEANINGS, H, W).

    The output has the codes, scaled to 0..1, and learned features of the codes, summed over the channels.

    Args:
        channels: C.
        unit: unit of the values; codes are 0 to 255 units.
    """

    first: Tensor

    def __init__(self, channels: int, unit: float) -> None:
        super().__init__()
        self.unit = unit
        self.meaning = nn.Embedding(256 * channels, _MEANINGS)
        nn.init.normal_(self.meaning.weight, std=channels**-0.5)
        self.register_buffer("first", 256 * torch.arange(channels)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        codes = torch.round(x / self.unit).clamp(0, 255)
        meanings = self.meaning(codes.long() + self.first).sum(1).movedim(-1, 1)
        return torch.cat([codes / 255, meanings], dim=1)


def _image_encoder(leaf: Leaf, size: int) -> nn.Module:
    """Three strided convolutions for screens (Mnih et al., 2015), two small ones for grids, none for a few pixels."""
    (channels, height, width), first = leaf.shape, list[nn.Module]()
    if leaf.codes:
        assert leaf.unit is not None
        first.append(_Codes(channels, leaf.unit))
        channels += _MEANINGS
    if min(height, width) >= 36:
        layers = [nn.Conv2d(channels, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1)]
    elif min(height, width) >= 3:
        layers = [nn.Conv2d(channels, 8, 2), nn.Conv2d(8, 16, 2)]
    else:
        layers = []
    convolutions = nn.Sequential(*first, *(part for layer in layers for part in (layer, nn.ReLU())), nn.Flatten())
    with torch.no_grad():
        flat = convolutions(torch.zeros(1, *leaf.shape)).shape[1]
    return nn.Sequential(convolutions, nn.Linear(flat, size))


class PositionCode(nn.Module):
    """Mix a sine code of the step within the episode into an embedding: (1 - s) x + s PE(t), s learned in [0, 1].

    Args:
        size: number of features of the embedding.
        base: longest wavelength divided by 2 pi; POPGym's agents use the length of the longest episode, 1024.
    """

    frequency: Tensor

    def __init__(self, size: int, base: float = 1024.0) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor(0.5))
        frequency = torch.exp(torch.arange((size + 1) // 2) * (-2 * math.log(base) / size))
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """x (B, T, size), steps (B, T) int64 -> (B, T, size)."""
        angle = steps[..., None] * self.frequency
        code = torch.cat([angle.sin(), angle.cos()], dim=-1)
        if x.shape[-1] % 2:
            code = code[..., :-1]
        return torch.lerp(x, code, clamped(self.mix, 0, 1))
