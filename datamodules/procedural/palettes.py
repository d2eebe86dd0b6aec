"""Colours with natural statistics: luminance dominates, hues cluster, few colours are vivid.

Colours are float32 RGB in [0, 255]. Source for the statistics: Ruderman, Cronin, Chiao, Statistics
of cone responses to natural images, JOSA A 1998 (luminance carries most variance, then blue-yellow,
then red-green); the numbers below are our own choice within that picture.
"""

from dataclasses import dataclass

import numpy as np

# Orthonormal opponent axes: luminance, red against cyan, green against blue.
_OPPONENT = np.array(
    [
        [1 / np.sqrt(3), 1 / np.sqrt(3), 1 / np.sqrt(3)],
        [2 / np.sqrt(6), -1 / np.sqrt(6), -1 / np.sqrt(6)],
        [0.0, 1 / np.sqrt(2), -1 / np.sqrt(2)],
    ],
    dtype=np.float32,
)
# Common hues (degrees on the wheel, width, weight): earth and skin, sky, foliage, anything.
_HUES = ((32.0, 14.0, 0.42), (222.0, 16.0, 0.24), (98.0, 20.0, 0.20), (0.0, 180.0, 0.14))
SKIN = ((222, 180, 155), (200, 150, 122), (168, 118, 88), (120, 80, 58), (84, 56, 42))


def colour(luminance: float, chroma: float, hue_deg: float) -> np.ndarray:
    """Return the RGB colour of a mean level, a distance from grey and a hue, shape ``(3,)``."""
    angle = np.deg2rad(hue_deg)
    axis = np.cos(angle) * _OPPONENT[1] + np.sin(angle) * _OPPONENT[2]
    return np.asarray(np.clip(luminance + chroma * axis, 0, 255), dtype=np.float32)


def draw_hue(rng: np.random.Generator) -> float:
    """Draw a hue in degrees; earth, sky and foliage are the most frequent."""
    centre, width, _ = _HUES[int(rng.choice(len(_HUES), p=[h[2] for h in _HUES]))]
    return float(rng.normal(centre, width) if width < 100 else rng.uniform(0, 360))


def draw_palette(
    rng: np.random.Generator, count: int = 12, hue_deg: float | None = None, vivid: float = 0.1
) -> np.ndarray:
    """Draw colours that could stand in one photograph, shape ``(count, 3)``.

    Args:
        rng: Source of chance.
        count: Number of colours.
        hue_deg: Main hue; drawn if not given.
        vivid: Probability of one saturated accent colour.
    """
    main = draw_hue(rng) if hue_deg is None else hue_deg
    hues = [main, main + rng.normal(0, 25), draw_hue(rng)]
    saturation = rng.gamma(2.0, 0.075)  # median chroma: an eighth of the luminance
    mean, spread = rng.uniform(60, 180), rng.uniform(22, 70)
    colours = np.empty((count, 3), np.float32)
    for i in range(count):
        luminance = float(np.clip(rng.normal(mean, spread), 6, 249))
        room = min(luminance, 1.6 * (255 - luminance))  # dark and bright colours are greyer
        chroma = room * saturation * rng.uniform(0.4, 1.7)
        hue = hues[int(rng.choice(3, p=(0.55, 0.3, 0.15)))] + rng.normal(0, 9)
        colours[i] = colour(luminance, chroma, hue)
    if rng.random() < vivid:
        level = rng.uniform(70, 180)
        colours[int(rng.integers(count))] = colour(
            level, rng.uniform(0.5, 1.0) * level, rng.uniform(0, 360)
        )
    return colours


@dataclass(frozen=True)
class ColourMap:
    """An affine map of colours: ``rgb -> matrix @ rgb + offset``, both float32."""

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, colours: np.ndarray) -> np.ndarray:
        """Map colours, shape ``(..., 3)``."""
        mapped = colours @ self.matrix.T + self.offset
        return np.asarray(np.clip(mapped, 0, 255), dtype=np.float32)

    def for_opaque(self) -> np.ndarray:
        """Return the 3 × 4 matrix for ``cv2.transform`` on RGB pictures."""
        return np.hstack([self.matrix, self.offset[:, None]]).astype(np.float32)

    def for_premultiplied(self) -> np.ndarray:
        """Return the 4 × 4 matrix for ``cv2.transform`` on alpha-premultiplied RGBA pictures."""
        full = np.eye(4, dtype=np.float32)
        full[:3, :3] = self.matrix
        full[:3, 3] = self.offset / 255  # the offset counts as far as a pixel is covered
        return full


def recolouring(
    mean: np.ndarray, new_mean: np.ndarray, hue_deg: float, saturation: float, contrast: float
) -> ColourMap:
    """Turn hues, scale saturation and contrast about ``mean``, and move it to ``new_mean``."""
    angle = np.deg2rad(hue_deg)
    c, s = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    matrix = np.float32(contrast) * (_OPPONENT.T @ turn @ _OPPONENT)
    return ColourMap(matrix.astype(np.float32), (new_mean - matrix @ mean).astype(np.float32))


def turned(mean: np.ndarray, hue_deg: float, saturation: float) -> np.ndarray:
    """Return a colour with its hue turned and its saturation scaled, shape ``(3,)``."""
    zero = np.zeros(3, np.float32)
    return recolouring(zero, zero, hue_deg, saturation, 1.0)(mean)


def capped_saturation(rng: np.random.Generator, chroma: float, saturation: float) -> float:
    """Return a saturation lowered so that ``chroma`` ends as low as it is in most photographs."""
    return float(min(saturation, (9 + rng.exponential(20)) / max(chroma, 1e-3)))


def exposed(mean: np.ndarray, low: float = 38.0, high: float = 190.0) -> np.ndarray:
    """Return a mean colour shifted so that its luminance leaves room for what varies about it."""
    luminance = float(mean.mean())
    return np.asarray(mean + np.float32(min(max(luminance, low), high) - luminance))
