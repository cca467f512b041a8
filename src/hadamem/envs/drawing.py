"""Pictures for `render_mode="rgb_array"`, in plain NumPy."""

import numpy as np

DARK, LIGHT, WHITE = (25, 25, 25), (204, 204, 204), (255, 255, 255)
ORANGE, RED, GREEN, BLUE = (228, 148, 109), (213, 60, 60), (60, 170, 90), (70, 110, 220)


def enlarge(cells: np.ndarray, size: int) -> np.ndarray:
    """Each cell of (rows, columns, 3) as a square of `size` pixels."""
    return cells.repeat(size, axis=0).repeat(size, axis=1)


class Plane:
    """A square picture of the plane around the origin, x to the right, y up.

    Args:
        reach: the largest coordinate in the picture; points beyond it are drawn at the border.
        size: width and height of the picture in pixels.
    """

    def __init__(self, reach: float, size: int = 256) -> None:
        self.reach = reach
        self.pixels = np.full((size, size, 3), WHITE, np.uint8)
        self._axis = (np.arange(size) + 0.5) / size * 2 * reach - reach
        self.line((-reach, 0), (reach, 0), LIGHT)
        self.line((0, -reach), (0, reach), LIGHT)

    def disc(self, centre: np.ndarray | tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
        """A filled disc, at least a pixel wide."""
        x, y = np.clip(centre, -self.reach, self.reach)
        radius = max(radius, self._axis[1] - self._axis[0])
        self.pixels[(self._axis - x) ** 2 + (-self._axis[:, None] - y) ** 2 <= radius**2] = colour

    def line(
        self, start: np.ndarray | tuple[float, float], end: np.ndarray | tuple[float, float], colour: tuple[int, int, int]
    ) -> None:
        """A thin line."""
        size = len(self._axis)
        points = np.linspace(np.asarray(start, float), np.asarray(end, float), 2 * size)
        columns, rows = np.clip((points * [1, -1] / self.reach + 1) / 2 * size, 0, size - 1).astype(int).T
        self.pixels[rows, columns] = colour
