"""Pictures with natural statistics: 1/f noise and a painter of occluding, textured shapes.

Sources: Lee, Mumford, Huang, Occlusion models for natural images, IJCV 2001 (dead leaves with radii
of density r^-3 give scale-invariant statistics); Field, Relations between the statistics of natural
images and the response properties of cortical cells, JOSA A 1987 (power falls as 1/f^2).
"""

from collections.abc import Sequence

import cv2
import numpy as np

NOISE_SIZE = 256
"""Side of a noise tile, px; tiles continue without a seam."""


def power_noise(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Draw a periodic noise tile whose power falls as 1/f^slope, float32, mean 0, deviation 1.

    Args:
        rng: Source of chance.
        slope: Exponent; natural images have 1.6 to 2.4.
        stretch: Above 1 the structures are that much wider than high.
    """
    n = NOISE_SIZE
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None]
    power = (fx * stretch) ** 2 + (fy / stretch) ** 2
    power[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((n, n))) * power ** (-slope / 4)
    tile = np.fft.irfft2(spectrum, (n, n))
    return np.asarray((tile - tile.mean()) / tile.std(), dtype=np.float32)


def polygon_blob(
    rng: np.random.Generator, count: int = 24, roughness: float = 0.2, power: float = 1.0
) -> np.ndarray:
    """Draw a star-shaped outline of mean radius 1 around the origin, shape ``(count, 2)``."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    orders = np.arange(1, 7)[:, None]
    weights = roughness * rng.standard_normal((6, 2)) / orders**power
    radius = 1 + (weights[:, :1] * np.cos(orders * angles)).sum(0)
    radius += (weights[:, 1:] * np.sin(orders * angles)).sum(0)
    radius = np.clip(radius, 0.35, 2.0)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def rounded_box(width: float, height: float, roundness: float, count: int = 32) -> np.ndarray:
    """Return a superellipse centred at the origin, shape ``(count, 2)``.

    Args:
        width: Full width.
        height: Full height.
        roundness: 1 gives an ellipse, 0 nearly a rectangle.
        count: Number of points.
    """
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + np.pi / count
    power = 0.12 + 0.88 * roundness
    c, s = np.cos(angles), np.sin(angles)
    return np.stack(
        [
            width / 2 * np.sign(c) * np.abs(c) ** power,
            height / 2 * np.sign(s) * np.abs(s) ** power,
        ],
        axis=1,
    )


class Painter:
    """Paints shapes over each other, each with its own colour, grain and shading.

    Shapes are first drawn as numbers into a label picture; colour, grain (a noise tile moved by a
    random offset for each shape) and a linear shading are looked up once at the end, which makes
    a thousand textured shapes cost little more than a thousand flat ones.

    Args:
        rng: Source of chance.
        height: Height, px.
        width: Width, px.
        noises: Noise tiles to take grain from.
        ground: Colour of what no shape covers, shape ``(3,)``.
        grain: Deviation of the ground's grain, grey levels.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        noises: list[np.ndarray],
        ground: np.ndarray,
        grain: float = 6.0,
    ) -> None:
        self.rng = rng
        self.labels = np.zeros((height, width), np.int32)
        self._noises = noises
        self._rows: list[tuple[float, ...]] = []
        self._register(ground, grain, 0.0, (width / 2, height / 2))

    @property
    def height(self) -> int:
        """Height, px."""
        return int(self.labels.shape[0])

    @property
    def width(self) -> int:
        """Width, px."""
        return int(self.labels.shape[1])

    def polygon(
        self, points: np.ndarray, colour: np.ndarray, grain: float = 6.0, shading: float = 0.0
    ) -> None:
        """Fill a polygon, shape ``(N, 2)``, px."""
        label = self._register(colour, grain, shading, points.mean(axis=0))
        cv2.fillPoly(self.labels, [np.rint(points).astype(np.int32)], label)

    def box(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: np.ndarray,
        grain: float = 6.0,
        shading: float = 0.0,
    ) -> None:
        """Fill an upright rectangle, px."""
        label = self._register(colour, grain, shading, ((x1 + x2) / 2, (y1 + y2) / 2))
        rows = slice(max(0, round(y1)), max(0, round(y2)))
        self.labels[rows, max(0, round(x1)) : max(0, round(x2))] = label

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: np.ndarray,
        angle_deg: float = 0.0,
        grain: float = 6.0,
        shading: float = 0.0,
    ) -> None:
        """Fill an ellipse, px and degrees."""
        label = self._register(colour, grain, shading, (x, y))
        axes = (max(1, round(rx)), max(1, round(ry)))
        cv2.ellipse(self.labels, (round(x), round(y)), axes, angle_deg, 0, 360, label, -1)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: np.ndarray, w: int) -> None:
        """Draw a straight line of ``w`` px."""
        label = self._register(colour, 3.0, 0.0, (x1, y1))
        cv2.line(self.labels, (round(x1), round(y1)), (round(x2), round(y2)), label, w)

    def leaves(
        self,
        palette: np.ndarray,
        count: int,
        radii: tuple[float, float],
        area: tuple[float, float, float, float] | None = None,
        elongation: float = 2.5,
        grain: float = 8.0,
        squareness: float = 0.35,
    ) -> None:
        """Scatter shapes whose radii have density r^-3 over an area.

        Args:
            palette: Colours to choose from, shape ``(P, 3)``.
            count: Number of shapes.
            radii: Smallest and largest radius, px.
            area: Where the centres lie, xyxy px; everywhere by default.
            elongation: Largest ratio of the axes.
            grain: Deviation of the grain, grey levels.
            squareness: Share of shapes with straight edges.
        """
        rng = self.rng
        x1, y1, x2, y2 = area if area is not None else (0, 0, self.width, self.height)
        low, high = radii[0] ** -2.0, radii[1] ** -2.0
        r = (high + rng.random(count) * (low - high)) ** -0.5
        ratio = np.sqrt(np.exp(rng.uniform(0, np.log(elongation), count)))
        xs, ys = rng.uniform(x1, x2, count), rng.uniform(y1, y2, count)
        angles = rng.uniform(0, 360, count) * (rng.random(count) < 0.7)
        picks = rng.integers(len(palette), size=count)
        brightness = rng.normal(0, 9, count)
        square = rng.random(count) < squareness
        grains = grain * rng.exponential(1.2, count)
        shadings = rng.normal(0, 0.35, count)
        for i in range(count):
            shade = palette[picks[i]] + brightness[i]
            rx, ry = r[i] * ratio[i], r[i] / ratio[i]
            if square[i]:
                a = np.deg2rad(angles[i])
                ux, uy = np.array([np.cos(a), np.sin(a)]) * rx, np.array([-np.sin(a), np.cos(a)])
                uy = uy * ry
                corners = np.array([-ux - uy, ux - uy, ux + uy, uy - ux])
                self.polygon(corners + np.array([xs[i], ys[i]]), shade, grains[i], shadings[i])
            else:
                self.ellipse(xs[i], ys[i], rx, ry, shade, angles[i], grains[i], shadings[i])

    def render(self) -> np.ndarray:
        """Return the painted picture, float32 ``(H, W, 3)``, not clipped."""
        table = np.array(self._rows, np.float32)
        rows = table[self.labels]  # (H, W, 8): rgb, grain, noise offsets y x, shading y x
        ys, xs = np.ogrid[: self.height, : self.width]
        iy = (ys + rows[..., 4].astype(np.int32)) % NOISE_SIZE
        ix = (xs + rows[..., 5].astype(np.int32)) % NOISE_SIZE
        noise = self._noises[int(self.rng.integers(len(self._noises)))]
        light = noise[iy, ix] * rows[..., 3]
        light += rows[..., 6] * ys + rows[..., 7] * xs
        return np.asarray(rows[..., :3] + light[..., None], dtype=np.float32)

    def _register(
        self, colour: np.ndarray, grain: float, shading: float, centre: Sequence[float] | np.ndarray
    ) -> int:
        """Note a shape's look; ``shading`` is grey levels per px away from its centre."""
        rng = self.rng
        oy, ox = rng.integers(NOISE_SIZE, size=2)
        turn = rng.uniform(0, 2 * np.pi)
        sy, sx = shading * np.sin(turn), shading * np.cos(turn)
        r, g, b = (float(c) - sy * float(centre[1]) - sx * float(centre[0]) for c in colour)
        self._rows.append((r, g, b, grain, oy, ox, sy, sx))
        return len(self._rows) - 1
