"""A scene as pictures: whole frames, or only what a window shows."""

import cv2
import numpy as np

from lightning_trackers import crops
from lightning_trackers.crops import Window

from .bank import Bank
from .elements import Instant, Slab
from .optics import MAX_SMEAR, shaded, smeared
from .screenplay import Screenplay
from .sprites import blend_
from .style import Style

BLOCK = 16
"""Grid that drawing at frame resolution keeps to: the macro-blocks of JPEG with 4:2:0 colour."""
_RIM = 6  # px drawn around a window, so that blurs find their neighbours; motion blur adds to it


class Scene:
    """A drawn scene: a target and what happens around it.

    Args:
        bank: Pictures to use.
        seed: The scene's number within the bank's seed and split.
        length: Frames of the video; times run from 0 to ``length - 1``.
        style: What may happen.
        turn: The bank's turn.
        family: Family of the target; any by default.
        not_sprite: A sprite number that the target must not have.
    """

    def __init__(
        self,
        bank: Bank,
        seed: int,
        length: int = 120,
        style: Style | None = None,
        turn: int = 0,
        family: str | None = None,
        not_sprite: int = -1,
    ) -> None:
        style = style if style is not None else Style()
        self.bank, self.seed, self.length = bank, seed, length
        self.play = Screenplay(bank, seed, length, style, turn, family, not_sprite)
        self.frame_wh = self.play.frame_wh
        self._fills: dict[float, np.ndarray] = {}

    def box_xyxy(self, t: float) -> np.ndarray:
        """Return the tight box of the target's whole outline, hidden or not, float64, px."""
        return self.play.instant(t).figure(0).box_xyxy

    def frame(self, t: float) -> np.ndarray:
        """Draw the whole frame, uint8 RGB ``(H, W, 3)``."""
        width, height = self.frame_wh
        return self._finished(t, 0, 0, width, height)

    def crop(self, t: float, window: Window) -> np.ndarray:
        """Draw what a window shows, uint8 RGB ``(size, size, 3)``.

        Where the window magnifies the frame, the picture is drawn and compressed at the frame's
        resolution and then enlarged, as a crop of a real frame would be.
        """
        width, height = self.frame_wh
        left, top = window.cx - window.side / 2, window.cy - window.side / 2
        right, bottom = left + window.side, top + window.side
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        fill = np.zeros(3) if inside else self.fill(t)
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            return _plain(window.size, fill)
        if window.scale >= 1:
            rim = _RIM + self._longest_smear(t) // 2
            x1, y1 = (max(0, int(v - rim) // BLOCK * BLOCK) for v in (left, top))
            x2, y2 = (
                min(limit, -int(-(v + rim) // BLOCK) * BLOCK)
                for v, limit in ((right, width), (bottom, height))
            )
            picture = self._finished(t, x1, y1, x2 - x1, y2 - y1)
            return crops.crop(picture, window.moved(-x1, -y1), fill)
        # Crop px whose centres lie in the frame.
        scale = window.scale
        u1, v1 = (max(0, int(np.ceil(-v * scale - 0.5))) for v in (left, top))
        u2, v2 = (
            min(window.size, int(np.floor((limit - v) * scale - 0.5)) + 1)
            for v, limit in ((left, width), (top, height))
        )
        if u1 >= u2 or v1 >= v2:
            return _plain(window.size, fill)
        part = self._reduced(t, left + u1 / scale, top + v1 / scale, (v2 - v1, u2 - u1), scale)
        if inside:
            return part
        out = _plain(window.size, fill)
        out[v1:v2, u1:u2] = part
        return out

    def fill(self, t: float) -> np.ndarray:
        """Return the frame's mean colour, measured on a thumbnail, shape ``(3,)``."""
        if t not in self._fills:
            width, height = self.frame_wh
            scale = 40 / width
            thumbnail = self._drawn(t, 0, 0, (max(1, round(height * scale)), 40), scale)
            thumbnail = self.play.lens.seen(thumbnail, 0.0, 0.0)
            self._fills = {t: crops.mean_colour(thumbnail)}  # one time is asked for again and again
        return self._fills[t]

    def visibility(self, t: float) -> float:
        """Return the share of the target that is neither hidden nor outside the frame."""
        hidden, outside = self.losses(t)
        return 1.0 - hidden - outside

    def losses(self, t: float) -> tuple[float, float]:
        """Return the shares of the target that are hidden by something and outside the frame."""
        play = self.play
        now = play.instant(t)
        box = now.figure(0).box_xyxy
        width, height = self.frame_wh
        x1, y1, x2, y2 = box.tolist()
        contained = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        hiders = [i for i, actor in enumerate(play.actors) if actor.front and now.near(i, box)]
        screens = [slab for slab in play.slabs if slab.front]
        if contained and not hiders and not screens:
            return 0.0, 0.0
        scale = 40 / max(x2 - x1, y2 - y1)
        out_hw = int(np.ceil((y2 - y1) * scale)) + 1, int(np.ceil((x2 - x1) * scale)) + 1
        whole = now.figure(0).draw(out_hw, scale, x1, y1, counted=True)[..., 3].astype(np.float32)
        ys, xs = ((np.arange(n) + 0.5) / scale for n in out_hw)
        rows = (ys + y1 > 0) & (ys + y1 < height)
        columns = (xs + x1 > 0) & (xs + x1 < width)
        inside = whole * (rows[:, None] & columns[None])
        seen = inside.copy()
        for i in hiders:
            seen *= 1 - now.figure(i).draw(out_hw, scale, x1, y1)[..., 3] / np.float32(255)
        view = _view(scale, x1, y1)
        for slab in screens:
            seen *= 1 - _slab_mask(slab, view @ slab.matrix(now), out_hw) / np.float32(255)
        total = max(float(whole.sum()), 1.0)
        return float((inside - seen).sum()) / total, float((whole - inside).sum()) / total

    # --- drawing ----------------------------------------------------------------------------------

    def _finished(self, t: float, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Draw a part of the frame at the frame's resolution, through lens and compression."""
        lens, now = self.play.lens, self.play.instant(t)
        if lens.coarse:
            half = (height + 1) // 2, (width + 1) // 2
            picture = self._drawn(t, x, y, half, 0.5)
            picture = cv2.resize(picture, (half[1] * 2, half[0] * 2))[:height, :width]
            picture = np.ascontiguousarray(picture)
        else:
            picture = self._drawn(t, x, y, (height, width), 1.0)
        picture = lens.seen(picture, now.defocus, 1.0)
        picture = lens.noisy(picture, self.bank.sensor_noise, self._noise_origin(t, x, y))
        return lens.compressed(picture)

    def _reduced(
        self, t: float, x: float, y: float, out_hw: tuple[int, int], scale: float
    ) -> np.ndarray:
        """Draw a part of the frame at a lower resolution, where compression shows less."""
        lens, now = self.play.lens, self.play.instant(t)
        picture = self._drawn(t, x, y, out_hw, scale)
        picture = lens.seen(picture, now.defocus, scale)
        origin = self._noise_origin(t, int(x), int(y))
        picture = lens.noisy(picture, self.bank.sensor_noise, origin, scale)
        return lens.compressed(picture, 60 * (1 - scale)) if scale > 0.6 else picture

    def _longest_smear(self, t: float) -> int:
        now = self.play.instant(t)
        steps = np.abs([*now.steps, now.camera_step]).max() * self.play.lens.shutter
        return int(min(np.ceil(steps), MAX_SMEAR))

    def _noise_origin(self, t: float, x: int, y: int) -> tuple[int, int]:
        # Another part of the tile for every frame, but the same for every window of one frame.
        return y + (self.seed + round(t) * 7919) % 65536, x + round(t) * 104729

    def _drawn(
        self, t: float, x: float, y: float, out_hw: tuple[int, int], scale: float
    ) -> np.ndarray:
        """Draw background, scenery, actors and light; ``x, y`` is the upper left corner."""
        play = self.play
        now, view = play.instant(t), _view(scale, x, y)
        picture = _warped(play.plate, view @ now.camera @ play.plate_to_world, out_hw)
        picture = cv2.transform(picture, play.plate_colours.for_opaque())
        if play.lens.shutter:
            picture = smeared(picture, now.camera_step * play.lens.shutter * scale)
        for slab in play.slabs:
            if not slab.front:
                _lay_slab_(picture, slab, view @ slab.matrix(now), scale)
        # Those in front come last, and of the others the target.
        order = sorted(range(len(play.actors)), key=lambda i: (play.actors[i].front, i == 0))
        bounds = np.array([x, y, x + out_hw[1] / scale, y + out_hw[0] / scale])
        for i in order:
            if now.near(i, bounds):
                self._lay_actor_(picture, i, now, x, y, scale)
        for slab in play.slabs:
            if slab.front:
                _lay_slab_(picture, slab, view @ slab.matrix(now), scale)
        return self._lit(picture, now, x, y, scale)

    def _lay_actor_(
        self, picture: np.ndarray, i: int, now: Instant, x: float, y: float, scale: float
    ) -> None:
        play, figure = self.play, now.figure(i)
        actor = play.actors[i]
        smear = now.steps[i] * play.lens.shutter * scale
        box = (figure.whole_xyxy - (x, y, x, y)) * scale
        if play.light.foot_shadow and actor.sprite.stands:
            self._lay_foot_shadow_(picture, box)
        region = _region(picture, box, int(np.abs(smear).max()) + 2)
        if region is None:
            return
        left, top, right, bottom = region
        layer = figure.draw((bottom - top, right - left), scale, x + left / scale, y + top / scale)
        layer = cv2.transform(layer, actor.colours.for_premultiplied())
        if play.lens.shutter:
            layer = smeared(layer, smear)
        blend_(picture[top:bottom, left:right], layer)

    def _lay_foot_shadow_(self, picture: np.ndarray, box_xyxy: np.ndarray) -> None:
        """Darken the ground at the foot of a box, in place."""
        light = self.play.light
        width = box_xyxy[2] - box_xyxy[0]
        cx = (box_xyxy[0] + box_xyxy[2]) / 2 - 0.2 * width * light.direction
        cy, rx, ry = box_xyxy[3], 0.55 * width, 0.1 * width + 1
        region = _region(
            picture, np.array([cx - 1.5 * rx, cy - 2 * ry, cx + 1.5 * rx, cy + 2 * ry]), 0
        )
        if region is None:
            return
        left, top, right, bottom = region
        xs = (np.arange(left, right, dtype=np.float32) + 0.5 - cx) / rx
        ys = (np.arange(top, bottom, dtype=np.float32) + 0.5 - cy) / ry
        near = np.exp(-1.2 * ys**2)[:, None] * np.exp(-1.2 * xs**2)
        under = picture[top:bottom, left:right]
        under[...] = shaded(np.ascontiguousarray(under), 1 - light.foot_shadow * near)

    def _lit(
        self, picture: np.ndarray, now: Instant, x: float, y: float, scale: float
    ) -> np.ndarray:
        """Apply the light's gradient and shadow, and the tone curve."""
        if not self.play.style.light:
            return picture
        light = self.play.light
        if light.shadow or any(light.gradient):
            height, width = picture.shape[:2]
            rows, columns = min(height, 33), min(width, 33)
            xs = x + (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns / scale)
            ys = y + (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows / scale)
            dx, dy = xs[None] - self.frame_wh[0] / 2, ys[:, None] - self.frame_wh[1] / 2
            gain = light.field(dx, dy, max(self.frame_wh) / 2, now.shadow_at)
            picture = shaded(picture, gain)
        return np.asarray(cv2.LUT(picture, now.tone))


def _plain(size: int, colour: np.ndarray) -> np.ndarray:
    return np.full((size, size, 3), np.rint(colour), np.uint8)


def _view(scale: float, x: float, y: float) -> np.ndarray:
    """Return the map from frame px to those of a picture whose corner lies at ``x, y``."""
    return np.array([[scale, 0, -x * scale], [0, scale, -y * scale], [0, 0, 1.0]])


def _region(
    picture: np.ndarray, box_xyxy: np.ndarray, margin: float
) -> tuple[int, int, int, int] | None:
    """Return the px of a picture that a box touches, or None."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    right = min(picture.shape[1], int(np.ceil(x2 + margin)))
    bottom = min(picture.shape[0], int(np.ceil(y2 + margin)))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _warped(
    levels: tuple[np.ndarray, ...], matrix: np.ndarray, out_hw: tuple[int, int]
) -> np.ndarray:
    """Draw a picture, mirrored at its borders, under a map from its px to the output's."""
    scale = np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
    level = int(np.clip(0.35 - np.log2(scale), 0, len(levels) - 1))
    grow = levels[0].shape[0] / levels[level].shape[0]
    # OpenCV counts pixel centres as whole numbers, here they lie at + 0.5.
    full = matrix @ np.array([[grow, 0, 0.5 * grow], [0, grow, 0.5 * grow], [0, 0, 1.0]])
    full[:2, 2] -= 0.5
    return np.asarray(
        cv2.warpAffine(
            levels[level],
            full[:2],
            (out_hw[1], out_hw[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def _lay_slab_(picture: np.ndarray, slab: Slab, matrix: np.ndarray, scale: float) -> None:
    """Lay a slab over a picture, in place; ``matrix`` maps its px to the picture's."""
    points = np.concatenate(slab.outlines) @ matrix[:2, :2].T + matrix[:2, 2]
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    region = _region(picture, box, 3 * slab.softness * scale + 2)
    if region is None:
        return
    left, top, right, bottom = region
    moved = matrix.copy()
    moved[:2, 2] -= (left, top)
    out_hw = (bottom - top, right - left)
    mask = _slab_mask(slab, moved, out_hw)
    if slab.softness * scale > 0.4:
        mask = cv2.GaussianBlur(mask, (0, 0), slab.softness * scale)
    texel, dx, dy = slab.texel
    texture = np.array([[texel, 0, -dx * texel], [0, texel, -dy * texel], [0, 0, 1.0]])
    stuff = _warped(slab.plate, moved @ texture, out_hw)
    stuff = cv2.transform(stuff, slab.colours.for_opaque())
    stuff = cv2.multiply(stuff, cv2.merge([mask] * 3), scale=1 / 255)
    blend_(picture[top:bottom, left:right], cv2.merge([*cv2.split(stuff), mask]))


def _slab_mask(slab: Slab, matrix: np.ndarray, out_hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(out_hw, np.uint8)
    for outline in slab.outlines:
        points = outline @ matrix[:2, :2].T + matrix[:2, 2] - 0.5
        # Far corners would overflow the fixed-point numbers that OpenCV draws with.
        points = np.clip(points, -8000, 8000)
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask
