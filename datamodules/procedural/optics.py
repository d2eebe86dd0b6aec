"""Light, lens and compression: what lies between a scene and its picture."""

from dataclasses import dataclass

import cv2
import numpy as np

MAX_SMEAR = 40.0
"""Longest motion blur, px."""


@dataclass(frozen=True)
class Light:
    """Light over the frame.

    Args:
        direction: Where it comes from, -1 left to 1 right.
        gradient: Relative change from the middle to the border, in x and y.
        shadow: Share of the light that a shadow with a moving edge takes.
        shadow_normal: Unit vector across the shadow's edge.
        shadow_width: Width of the edge, px.
        foot_shadow: Share of the light that an actor takes from the ground at its foot.
        exposure: Log of the gain, and of the exponent of the tone curve.
    """

    direction: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    shadow: float = 0.0
    shadow_normal: tuple[float, float] = (1.0, 0.0)
    shadow_width: float = 10.0
    foot_shadow: float = 0.0
    exposure: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float, changing: bool) -> "Light":
        """Draw the light of a scene whose target is ``size`` px large."""
        turn, fall = rng.uniform(0, 2 * np.pi, 2)
        slope = min(0.5, rng.exponential(0.15)) * (rng.random() < 0.6)
        return cls(
            direction=rng.uniform(-1, 1),
            gradient=(slope * np.cos(fall), slope * np.sin(fall)),
            shadow=rng.uniform(0.2, 0.6) * (rng.random() < (0.5 if changing else 0.12)),
            shadow_normal=(float(np.cos(turn)), float(np.sin(turn))),
            shadow_width=size * np.exp(rng.uniform(np.log(0.02), 0)),
            foot_shadow=rng.uniform(0.15, 0.6) * (rng.random() < 0.65),
            exposure=(rng.normal(0, 0.12), rng.normal(0, 0.1)),
        )

    def field(self, dx: np.ndarray, dy: np.ndarray, span: float, shadow_at: float) -> np.ndarray:
        """Return the gain at places given relative to the frame's middle, px, broadcast.

        Args:
            dx: Places, px.
            dy: Places, px.
            span: Half the frame's larger side, px.
            shadow_at: Place of the shadow's edge along its normal, px.
        """
        gain = 1 + self.gradient[0] * dx / span + self.gradient[1] * dy / span
        if self.shadow:
            nx, ny = self.shadow_normal
            depth = (nx * dx + ny * dy - shadow_at) / self.shadow_width
            gain = gain * (1 - self.shadow / (1 + np.exp(-np.clip(4 * depth, -30, 30))))
        return np.asarray(gain)


@dataclass(frozen=True)
class Lens:
    """What the camera does to the picture.

    Args:
        softness: Blur of the optics, frame px.
        defocus: Largest blur of the moving focus, frame px.
        shutter: Share of the frame's time that the shutter is open; 0 freezes all motion.
        noise: Deviation of the sensor noise, grey levels.
        quality: JPEG quality; 100 keeps the picture as it is.
        sharpening: Strength of the overshoot at edges.
        coarse: Whether the picture was enlarged from half its size.
        grey: Whether the film is black and white.
    """

    softness: float = 0.0
    defocus: float = 0.0
    shutter: float = 0.0
    noise: float = 0.0
    quality: int = 100
    sharpening: float = 0.0
    coarse: bool = False
    grey: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Lens":
        """Draw a camera."""
        return cls(
            softness=rng.uniform(0.0, 0.9),
            defocus=rng.uniform(0.4, 2.2) if rng.random() < 0.22 else 0.0,
            shutter=rng.uniform(0.1, 0.9) if rng.random() < 0.45 else 0.0,
            noise=min(12.0, rng.gamma(1.2, 2.0)),
            quality=int(rng.uniform(28, 96)) if rng.random() < 0.75 else 100,
            sharpening=rng.uniform(0.2, 1.0) if rng.random() < 0.2 else 0.0,
            coarse=bool(rng.random() < 0.15),
            grey=bool(rng.random() < 0.08),
        )

    def seen(self, picture: np.ndarray, defocus: float, scale: float) -> np.ndarray:
        """Blur, sharpen and bleach; ``scale`` is the picture's px per frame px."""
        sigma = float(np.hypot(self.softness, defocus)) * scale
        if sigma > 0.35:
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        if self.sharpening and scale > 0.5:
            soft = cv2.GaussianBlur(picture, (0, 0), 1.2 * scale)
            picture = cv2.addWeighted(picture, 1 + self.sharpening, soft, -self.sharpening, 0)
        if self.grey:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            picture = cv2.merge([picture, picture, picture])
        return np.asarray(picture)

    def noisy(
        self, picture: np.ndarray, tile: np.ndarray, origin: tuple[int, int], scale: float = 1.0
    ) -> np.ndarray:
        """Add sensor noise from a tile that repeats; averaging in a reduced picture lowers it.

        Args:
            picture: Picture, uint8 RGB.
            tile: Noise around 128 of deviation 32, uint8 ``(N, N, 3)``.
            origin: Place of the picture's first row and column in the repeated tile.
            scale: The picture's px per frame px.
        """
        level = self.noise * min(1.0, scale)
        if level < 0.4:
            return picture
        noise = _tiled(tile, origin, (picture.shape[0], picture.shape[1]))
        if self.grey:
            noise = cv2.merge([np.ascontiguousarray(noise[..., 0])] * 3)
        return np.asarray(cv2.addWeighted(picture, 1.0, noise, level / 32, -4 * level))

    def compressed(self, picture: np.ndarray, easing: float = 0.0) -> np.ndarray:
        """Send the picture through JPEG; ``easing`` raises the quality."""
        if self.quality >= 100:
            return picture
        quality = min(95, max(self.quality, round(self.quality + easing)))
        # OpenCV encodes BGR; red taken for blue would be thinned out like a colour nobody sees.
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def smeared(picture: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Blur a picture along a way, px; ways below 1.5 px leave it as it is."""
    length = float(np.hypot(*way))
    if length < 1.5:
        return picture
    step = way / length * min(length, MAX_SMEAR) / 2
    half = int(np.ceil(np.abs(step).max())) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for along in np.linspace(-1, 1, 4 * half + 1):  # bilinear splats of points on the way
        x, y = half + along * step
        x0, y0 = int(x), int(y)
        fx, fy = x - x0, y - y0
        kernel[y0 : y0 + 2, x0 : x0 + 2] += np.outer((1 - fy, fy), (1 - fx, fx))
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()))


def shaded(picture: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Multiply a picture by a gain of fewer px, enlarged to its size; gains above 2 count as 2."""
    field = np.clip(gain * 128, 0, 255).astype(np.uint8)
    size = (picture.shape[1], picture.shape[0])
    if field.shape != picture.shape[:2]:
        field = cv2.resize(field, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(picture, cv2.merge([field] * 3), scale=1 / 128))


def _tiled(tile: np.ndarray, origin: tuple[int, int], out_hw: tuple[int, int]) -> np.ndarray:
    """Cut a piece out of a tile repeated without end."""
    size = tile.shape[0]
    top, left = origin[0] % size, origin[1] % size
    bottom, right = top + out_hw[0], left + out_hw[1]
    if bottom <= size and right <= size:
        return tile[top:bottom, left:right]
    repeats = (-(-bottom // size), -(-right // size), 1)
    return np.tile(tile, repeats)[top:bottom, left:right]
