"""One scene: a background, a target and what happens around it, drawn at any instant.

Coordinates: the *world* is the frame as an unmoved camera sees it; :meth:`Instant.camera` maps it to
frame px. Everything is a closed-form function of the scene's seed and the time, so frames may be drawn
in any order, by any process.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from lightning_trackers import crops
from lightning_trackers.crops import Window

from .bank import Bank
from .motion import Wander, fold, smooth_step
from .palettes import ColourMap, capped_saturation, recolouring, turned
from .sprites import Pose, Sprite, blend_
from .textures import polygon_blob, rounded_box

BLOCK = 16
"""Grid that drawing at frame resolution keeps to: the macro-blocks of JPEG with 4:2:0 colour."""
FRAME_SIZES = ((320, 240), (352, 288), (480, 270), (480, 360), (640, 360), (640, 480), (854, 480),
               (1280, 720))  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How often and how strongly things happen in a scene.

    Args:
        occluder: Probability that something passes in front of the target.
        full_occlusion: Share of the occluders that hide the target wholly.
        lookalikes: Probability of look-alike distractors.
        low_contrast: Probability that the target has nearly the background's colours.
        light_change: Probability of strong changes of light.
        fast: Probability of jumps within a few frames.
        spin: Probability of large in-plane rotation.
        turn: Probability of large out-of-plane turns.
        zoom: Probability of strong scale change.
        leaves_view: Probability that the target may leave the frame in part.
        target_px: Range of the target's size (root of the box's area), px, drawn log-uniformly.
        frame_wh: Frame size, px; drawn to fit the target if not given.
        camera: Whether the camera may move.
        lens: Whether blur, noise and compression happen.
        light: Whether any light changes, gradients and shadows happen.
    """

    occluder: float = 0.35
    full_occlusion: float = 0.2
    lookalikes: float = 0.4
    low_contrast: float = 0.35
    light_change: float = 0.3
    fast: float = 0.2
    spin: float = 0.15
    turn: float = 0.4
    zoom: float = 0.3
    leaves_view: float = 0.06
    target_px: tuple[float, float] = (15.0, 250.0)
    frame_wh: tuple[int, int] | None = None
    camera: bool = True
    lens: bool = True
    light: bool = True

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: If a probability leaves [0, 1] or a size is impossible.
        """
        for name in ("occluder", "full_occlusion", "lookalikes", "low_contrast", "light_change",
                     "fast", "spin", "turn", "zoom", "leaves_view"):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a probability in [0, 1], got {value}")
        low, high = self.target_px
        if not 4 <= low <= high:
            raise ValueError(f"target_px: expected 4 <= low <= high, got {self.target_px}")
        if self.frame_wh is not None and min(self.frame_wh) < 2 * low:
            raise ValueError(
                f"frame_wh: expected at least twice the smallest target ({low} px), got "
                f"{self.frame_wh}"
            )


@dataclass(frozen=True)
class Actor:
    """A sprite with its colours and its way through the scene.

    Args:
        sprite: The sprite.
        colours: How its colours are changed.
        scale: px per unit before any change of scale.
        flip: -1 mirrors it.
        channels: Numbers of its motion channels: x, y, log scale, in-plane angle, log aspect, yaw.
        spin: Steady in-plane rotation, rad a frame.
        yaw: Yaw at time 0, and steady turn, rad a frame.
        gait: Phase at time 0, and rad a frame.
        swing: Factor on joints' amplitudes.
        tilt: In-plane angle at rest, rad.
        front: Whether it passes in front of the target.
        anchor: Place at rest, frame px; for the target the middle of its range.
        velocity: Steady motion, px a frame, and the instant at which it is at the anchor.
        company: How far it moves along with the target, 0 to 1.
        jumps: Jumps of the target: instant, duration, dx, dy.
    """

    sprite: Sprite
    colours: ColourMap
    scale: float
    flip: float
    channels: tuple[int, ...]
    spin: float
    yaw: tuple[float, float]
    gait: tuple[float, float]
    swing: float
    tilt: float
    front: bool = False
    anchor: tuple[float, float] = (0.0, 0.0)
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    company: float = 0.0
    jumps: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Slab:
    """A piece of scenery with a background's texture, before or behind the target.

    Args:
        outlines: Polygons, world px around the anchor.
        plate: Mip levels of its texture.
        colours: How its colours are changed.
        texel: World px per texel, and where the texture starts.
        anchor: Its place in the world at time ``velocity[2]``, px.
        velocity: Its own motion, px a frame, and the instant at which it is at the anchor.
        front: Whether it is before the target.
        softness: Blur of its edge, world px.
    """

    outlines: tuple[np.ndarray, ...]
    plate: tuple[np.ndarray, ...]
    colours: ColourMap
    texel: tuple[float, float, float]
    anchor: tuple[float, float]
    velocity: tuple[float, float, float]
    front: bool
    softness: float


@dataclass(frozen=True)
class Instant:
    """What holds at one time: the camera, every actor's pose and place, and the light."""

    t: float
    camera: np.ndarray
    poses: tuple[Pose, ...]
    roots: tuple[np.ndarray, ...]
    speeds: tuple[np.ndarray, ...]
    camera_speed: np.ndarray
    tone: np.ndarray
    shadow_at: float
    blur: float


@dataclass(frozen=True)
class State:
    """What attributes are judged by: the tone of mid-grey, turns in rad, smear in px."""

    grey: float
    yaw: float
    angle: float
    smear: float


@dataclass(frozen=True)
class Lens:
    """What the camera does to the picture, in frame px and grey levels."""

    softness: float = 0.0
    defocus: float = 0.0
    shutter: float = 0.0
    noise: float = 0.0
    quality: int = 100
    sharpening: float = 0.0
    coarse: bool = False
    grey: bool = False


@dataclass(frozen=True)
class Light:
    """Light over the frame: a gradient, a shadow with a moving edge, and their direction."""

    direction: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    shadow: float = 0.0
    shadow_normal: tuple[float, float] = (1.0, 0.0)
    shadow_width: float = 0.1
    foot_shadow: float = 0.0


class Scene:
    """A scene drawn from a seed.

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
        self.bank, self.seed, self.length, self.turn = bank, seed, length, turn
        self.style = style if style is not None else Style()
        rng = bank.rng(4, seed)
        self._wander = Wander()
        self._place(rng, family, not_sprite)
        self._dress(rng)
        self._light_up(rng)
        self._populate(rng)
        self._instants: dict[float, Instant] = {}
        self._fills: dict[float, np.ndarray] = {}

    # --- public ---------------------------------------------------------------------------------

    @property
    def target(self) -> Actor:
        """The target."""
        return self.actors[0]

    def box_xyxy(self, t: float) -> np.ndarray:
        """Return the tight box of the target's whole outline, hidden or not, float64, px."""
        now = self._instant(t)
        return self.target.sprite.box_xyxy(now.poses[0], now.roots[0])

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
        inside = (
            left < width and top < height and left + window.side > 0 and top + window.side > 0
        )
        if not inside:
            return np.full((window.size,) * 2 + (3,), np.rint(self.fill(t)), np.uint8)
        wholly = left >= 0 and top >= 0 and max(left, top) + window.side <= min(width, height)
        fill = np.zeros(3) if wholly else self.fill(t)
        if window.scale >= 1:
            x1, y1 = (max(0, int(v - 2) // BLOCK * BLOCK) for v in (left, top))
            x2, y2 = (
                min(limit, -int(-(v + window.side + 3) // BLOCK) * BLOCK)
                for v, limit in ((left, width), (top, height))
            )
            picture = self._finished(t, x1, y1, x2 - x1, y2 - y1)
            moved = window.moved(-x1, -y1)
            return crops.crop(picture, moved, fill)
        # Crop px whose centres lie in the frame.
        scale = window.scale
        u1, v1 = (max(0, int(np.ceil(-v * scale - 0.5))) for v in (left, top))
        u2, v2 = (
            min(window.size, int(np.floor((limit - v) * scale - 0.5)) + 1)
            for v, limit in ((left, width), (top, height))
        )
        if u1 >= u2 or v1 >= v2:
            return np.full((window.size,) * 2 + (3,), np.rint(fill), np.uint8)
        part = self._reduced(t, left + u1 / scale, top + v1 / scale, (v2 - v1, u2 - u1), scale)
        if part.shape[0] == part.shape[1] == window.size:
            return part
        out = np.full((window.size,) * 2 + (3,), np.rint(fill), np.uint8)
        out[v1:v2, u1:u2] = part
        return out

    def fill(self, t: float) -> np.ndarray:
        """Return the frame's mean colour, from a thumbnail, shape ``(3,)``."""
        if t not in self._fills:
            width, height = self.frame_wh
            scale = 40 / width
            thumbnail = self._drawn(t, 0, 0, (max(1, round(height * scale)), 40), scale)
            self._fills[t] = crops.mean_colour(self._toned(thumbnail, t))
        return self._fills[t]

    def visibility(self, t: float) -> float:
        """Return the share of the target that is neither hidden nor outside the frame."""
        hidden, outside = self.losses(t)
        return 1.0 - hidden - outside

    def losses(self, t: float) -> tuple[float, float]:
        """Return the shares of the target that are hidden by something and outside the frame."""
        now = self._instant(t)
        box = self.box_xyxy(t)
        scale = 40 / max(box[2:] - box[:2])
        out_hw = (
            int(np.ceil((box[3] - box[1]) * scale)) + 1,
            int(np.ceil((box[2] - box[0]) * scale)) + 1,
        )
        view = np.array([[scale, 0, -box[0] * scale], [0, scale, -box[1] * scale], [0, 0, 1]])
        target = self.target.sprite.draw(now.poses[0], view @ now.roots[0], out_hw, True)[..., 3]
        whole = target.astype(np.float32)
        ys = (np.arange(out_hw[0]) + 0.5) / scale + box[1]
        xs = (np.arange(out_hw[1]) + 0.5) / scale + box[0]
        width, height = self.frame_wh
        inside = whole * (
            ((ys > 0) & (ys < height))[:, None] & ((xs > 0) & (xs < width))[None]
        )
        seen = inside.copy()
        for actor, pose, root in zip(self.actors, now.poses, now.roots, strict=True):
            if actor.front:
                seen *= 1 - actor.sprite.draw(pose, view @ root, out_hw)[..., 3] / np.float32(255)
        for slab in self.slabs:
            if slab.front:
                mask = _slab_mask(slab, view @ self._slab_matrix(slab, now), out_hw)
                seen *= 1 - mask / np.float32(255)
        total = max(float(whole.sum()), 1.0)
        return float((inside - seen).sum()) / total, float((whole - inside).sum()) / total

    def state(self, t: float) -> State:
        """Return what attributes are judged by at one time."""
        now, target = self._instant(t), self.target
        angle = self._wander.at(t)[target.channels[3]] + target.spin * t
        return State(
            grey=float(now.tone[0, 128].mean()) if self.style.light else 128.0,
            yaw=now.poses[0].yaw,
            angle=float(angle),
            smear=float(np.hypot(*now.speeds[0]) * self.lens.shutter),
        )

    @property
    def deforms(self) -> bool:
        """Whether the target's limbs swing or its outline changes."""
        target = self.target
        swing = max(part.swing for part in target.sprite.parts) * target.swing
        wobbles = any(len(part.wobble) for part in target.sprite.parts)
        return bool(target.gait[1] > 0 and (wobbles or swing > 0.15))

    # --- what a scene is made of ------------------------------------------------------------------

    def _place(self, rng: np.random.Generator, family: str | None, not_sprite: int) -> None:
        """Choose the target, the frame's size and the target's way through it."""
        style, bank = self.style, self.bank
        numbers = [
            i for i in _numbers_of(bank.sprites, family) if i != not_sprite
        ] or [int(not_sprite == 0)]
        self.sprite_number = numbers[int(rng.integers(len(numbers)))]
        sprite = bank.sprite(self.sprite_number, self.turn)
        low, high = np.log(style.target_px)
        size = float(np.exp(rng.uniform(low, high)))
        if style.frame_wh is not None:
            self.frame_wh = style.frame_wh
            size = min(size, 0.45 * min(self.frame_wh))
        else:
            fitting = [wh for wh in FRAME_SIZES if 0.03 * wh[0] <= size <= 0.36 * wh[1]]
            self.frame_wh = (fitting or [FRAME_SIZES[-1 if size > 100 else 0]])[
                int(rng.integers(max(1, len(fitting))))
            ]
        self.size = size
        # Speeds and ranges are in target sizes; the slowest period follows from both.
        self.speed = float(np.exp(rng.uniform(np.log(0.004), np.log(0.12))))
        reach = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5))))
        period = 2 * np.pi * reach / self.speed
        self.target_way = (reach * size, min(max(period, 12.0), 600.0))
        zoom = style.zoom > rng.random()
        spins = rng.random() < style.spin
        turns = rng.random() < style.turn
        jumps = []
        if rng.random() < style.fast:
            for _ in range(max(1, int(rng.poisson(self.length / 50)))):
                dx, dy = rng.normal(0, 0.7, 2) * size
                jumps.append((rng.uniform(0, self.length), rng.uniform(1, 5), dx, dy))
        self._target_plan = (zoom, spins, turns, tuple(jumps))
        self.actors: list[Actor] = [self._actor(rng, sprite, size, zoom, spins, turns)]
        width, height = self.frame_wh
        # Most targets stay well inside the frame.
        self.margin = size * (rng.uniform(0.5, 0.8) if rng.random() >= style.leaves_view else 0.1)
        anchor = (
            rng.uniform(0.25, 0.75) * width,
            rng.uniform(0.3, 0.75) * height,
        )
        self.actors[0] = replace(self.actors[0], anchor=anchor, jumps=tuple(jumps))

    def _actor(
        self,
        rng: np.random.Generator,
        sprite: Sprite,
        size: float,
        zoom: bool = False,
        spins: bool = False,
        turns: bool = False,
    ) -> Actor:
        """Draw how a sprite moves; its colours and place are chosen later."""
        wander, (reach, period) = self._wander, self.target_way
        slow = rng.uniform(60, 400)
        channels = (
            wander.add(rng, reach * rng.uniform(0.5, 1.3), period * rng.uniform(0.7, 1.5)),
            wander.add(rng, reach * rng.uniform(0.2, 0.8), period * rng.uniform(0.7, 1.5)),
            wander.add(rng, rng.uniform(0.25, 0.5) if zoom else rng.uniform(0.02, 0.18), slow),
            wander.add(
                rng,
                rng.uniform(0.3, 0.9) if spins else abs(rng.normal(0, 0.09)),
                rng.uniform(40, 200),
            ),
            wander.add(rng, abs(rng.normal(0, 0.07)), rng.uniform(50, 250)),
            wander.add(rng, min(rng.uniform(0.5, 1.4), sprite.turns) if turns
                       else rng.uniform(0, 0.25), rng.uniform(50, 250)),
        )  # fmt: skip
        around = sprite.turns > np.pi
        free = sprite.spins and rng.random() < 0.6
        return Actor(
            sprite=sprite,
            colours=ColourMap(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)),
            scale=size / float(np.sqrt(sprite.size_wh[0] * sprite.size_wh[1])),
            flip=1.0 if rng.random() < 0.5 else -1.0,
            channels=channels,
            spin=rng.normal(0, 0.03) if spins and sprite.spins else 0.0,
            yaw=(
                rng.uniform(-np.pi, np.pi) if around else rng.normal(0, 0.3) * sprite.turns,
                rng.normal(0, 0.015) if turns and around else 0.0,
            ),
            gait=(rng.uniform(0, 6.28), rng.uniform(0.08, 0.5) * (rng.random() < 0.8)),
            swing=rng.uniform(0.3, 1.15),
            tilt=rng.uniform(-np.pi, np.pi) if free else rng.normal(0, 0.06),
        )

    def _dress(self, rng: np.random.Generator) -> None:
        """Choose the background, the camera's motion and the colours of both."""
        bank, style, wander = self.bank, self.style, self._wander
        width, height = self.frame_wh
        number = int(rng.integers(bank.plates))
        self.plate = bank.plate(number, self.turn)
        mean = self.plate[-1].reshape(-1, 3).mean(axis=0)
        hue = rng.normal(0, 14) if rng.random() < 0.8 else rng.uniform(0, 360)
        saturation = capped_saturation(rng, mean, np.exp(rng.normal(-0.1, 0.35)))
        contrast = np.exp(rng.normal(-0.08, 0.25))
        level = turned(mean, hue, saturation) + np.float32(rng.normal(0, 16))
        self.plate_colours = recolouring(mean, level, hue, saturation, contrast)
        texel = width / self.plate[0].shape[1] * rng.uniform(0.8, 1.5)
        angle = rng.normal(0, 0.05)
        mirror = 1.0 if rng.random() < 0.5 else -1.0
        c, s = texel * np.cos(angle), texel * np.sin(angle)
        half = self.plate[0].shape[0] / 2
        centre = np.array([[1, 0, -half], [0, 1, -half], [0, 0, 1.0]])
        turn = np.array([[c * mirror, -s, width / 2], [s * mirror, c, height / 2], [0, 0, 1.0]])
        self.plate_to_world = turn @ centre
        moving = style.camera and rng.random() < 0.65
        pan = self.size * np.exp(rng.uniform(np.log(0.1), np.log(2.0))) if moving else 0.0
        drift = self.size * rng.normal(0, 0.03, 2) * (moving and rng.random() < 0.4)
        shake = self.size * rng.exponential(0.012) * (moving and rng.random() < 0.6)
        self._pan = (float(drift[0]), float(drift[1]))
        self._camera_channels = (
            wander.add(rng, pan, rng.uniform(60, 300)),
            wander.add(rng, pan * rng.uniform(0.1, 0.7), rng.uniform(60, 300)),
            wander.add(rng, rng.uniform(0, 0.2) if moving and rng.random() < 0.4 else 0.0,
                       rng.uniform(80, 300)),
            wander.add(rng, rng.exponential(0.02) if moving else 0.0, rng.uniform(50, 200)),
            wander.add(rng, min(shake, 6.0), rng.uniform(8, 20)),
            wander.add(rng, min(shake, 6.0), rng.uniform(8, 20)),
        )  # fmt: skip

    def _light_up(self, rng: np.random.Generator) -> None:
        """Choose light, lens and compression."""
        style, wander = self.style, self._wander
        strong = style.light and rng.random() < style.light_change
        unit = 1.0 if style.light else 0.0
        self._light_channels = (
            wander.add(rng, rng.uniform(0.12, 0.4) if strong else 0.03 * unit, rng.uniform(25, 250)),
            wander.add(rng, rng.uniform(4, 18) if strong else 1.5 * unit, rng.uniform(25, 250)),
            wander.add(rng, rng.uniform(0.05, 0.2) if strong else 0.01 * unit,
                       rng.uniform(40, 250)),
            *(wander.add(rng, rng.uniform(0, 0.07) * unit, rng.uniform(40, 250)) for _ in range(3)),
            wander.add(rng, 0.5 * max(self.frame_wh), rng.uniform(60, 400)),
            wander.add(rng, 1.0, rng.uniform(25, 150)),
        )  # fmt: skip
        self.exposure = unit * rng.normal(0, 0.14), unit * rng.normal(0, 0.1)
        turn = rng.uniform(0, 2 * np.pi)
        slope = rng.exponential(0.15) if rng.random() < 0.6 else 0.0
        fall = rng.uniform(0, 2 * np.pi)
        self.light = Light(
            direction=rng.uniform(-1, 1),
            gradient=(unit * slope * np.cos(fall), unit * slope * np.sin(fall)),
            shadow=unit * rng.uniform(0.2, 0.6) * (rng.random() < (0.6 if strong else 0.12)),
            shadow_normal=(float(np.cos(turn)), float(np.sin(turn))),
            shadow_width=self.size * np.exp(rng.uniform(np.log(0.02), np.log(1.0))),
            foot_shadow=unit * rng.uniform(0.15, 0.6) * (rng.random() < 0.65),
        )
        if not style.lens:
            self.lens = Lens()
            return
        self.lens = Lens(
            softness=rng.uniform(0.0, 0.9),
            defocus=rng.uniform(0.4, 2.2) if rng.random() < 0.22 else 0.0,
            shutter=rng.uniform(0.1, 0.9) if rng.random() < 0.45 else 0.0,
            noise=min(14.0, rng.gamma(1.2, 2.2)),
            quality=int(rng.uniform(28, 96)) if rng.random() < 0.75 else 100,
            sharpening=rng.uniform(0.2, 1.0) if rng.random() < 0.2 else 0.0,
            coarse=rng.random() < 0.15,
            grey=rng.random() < 0.08,
        )

    def _populate(self, rng: np.random.Generator) -> None:
        """Colour the target and add look-alikes, passers-by, scenery and occluders."""
        style, bank, size = self.style, self.bank, self.size
        self.actors[0] = replace(self.actors[0], colours=self._target_colours(rng))
        target = self.actors[0]
        own = target.colours(target.sprite.mean_colour)
        self.contrast = float(np.abs(own - self._background_colour(target.anchor)).mean())
        self.lookalikes = 0
        if rng.random() < style.lookalikes:
            for _ in range(int(rng.integers(1, 5))):
                sprite = target.sprite
                if rng.random() < 0.4:
                    same = _numbers_of(bank.sprites, sprite.family)
                    sprite = bank.sprite(same[int(rng.integers(len(same)))], self.turn)
                actor = self._actor(rng, sprite, size * np.exp(rng.normal(0, 0.16)))
                mean = sprite.mean_colour
                close = target.colours(target.sprite.mean_colour) + rng.normal(0, 9, 3)
                colours = target.colours
                if sprite is not target.sprite or rng.random() < 0.7:
                    colours = recolouring(
                        mean, np.float32(close), rng.normal(0, 12), rng.uniform(0.7, 1.2),
                        rng.uniform(0.8, 1.15),
                    )  # fmt: skip
                self.actors.append(self._bystander(rng, actor, colours, rng.uniform(0.0, 1.0)))
                self.lookalikes += 1
        for _ in range(int(rng.poisson(0.7))):  # unlike passers-by
            sprite = bank.sprite(int(rng.integers(bank.sprites)), self.turn)
            if sprite is target.sprite:
                continue
            actor = self._actor(rng, sprite, size * np.exp(rng.normal(0, 0.35)))
            colours = self._free_colours(rng, sprite)
            self.actors.append(self._bystander(rng, actor, colours, rng.uniform(0.0, 0.5)))
        self.slabs: list[Slab] = []
        for _ in range(int(rng.poisson(0.4))):
            place = np.array(target.anchor) + rng.normal(0, 2.0, 2) * size
            self.slabs.append(self._slab(rng, place, size * np.exp(rng.normal(0.6, 0.5)), False))
        self.occluded_at: tuple[float, ...] = ()
        if rng.random() < style.occluder:
            count = max(1, int(rng.poisson(self.length / 80)))
            self.occluded_at = tuple(float(t) for t in rng.uniform(0, self.length, count))
            for t in self.occluded_at:
                self._occlude(rng, t)

    def _target_colours(self, rng: np.random.Generator) -> ColourMap:
        """Choose the target's colours: like the background, of its palette, or its own."""
        sprite = self.actors[0].sprite
        behind = self._background_colour(self.actors[0].anchor)
        if rng.random() >= self.style.low_contrast:
            return self._free_colours(rng, sprite)
        if rng.random() < 0.6:
            step = float(np.exp(rng.uniform(np.log(4), np.log(35)))) * rng.choice([-1, 1])
            if not 15 < behind.mean() + step < 235:
                step = -step
            mean = behind + step + rng.normal(0, 4, 3)
        else:
            level = self.plate[min(4, len(self.plate) - 1)].reshape(-1, 3)
            mean = self.plate_colours(level[int(rng.integers(len(level)))].astype(np.float32))
            mean = mean + rng.normal(0, 8, 3)
        return recolouring(
            sprite.mean_colour, np.float32(mean), rng.normal(0, 20), rng.uniform(0.3, 1.0),
            rng.uniform(0.4, 1.0),
        )  # fmt: skip

    def _free_colours(self, rng: np.random.Generator, sprite: Sprite) -> ColourMap:
        """Choose any colours; people keep roughly the hue of skin."""
        living = sprite.family in ("person", "face")
        hue = rng.normal(0, 9) if living else rng.uniform(-180, 180)
        saturation = capped_saturation(rng, sprite.mean_colour, np.exp(rng.normal(-0.05, 0.3)))
        mean = turned(sprite.mean_colour, hue, saturation) + np.float32(rng.normal(0, 15))
        return recolouring(sprite.mean_colour, mean, hue, saturation, np.exp(rng.normal(0, 0.2)))

    def _background_colour(self, place: tuple[float, float]) -> np.ndarray:
        """Return the background's mean colour about a place of the world, shape ``(3,)``."""
        level = self.plate[min(4, len(self.plate) - 1)]
        at = np.linalg.inv(self.plate_to_world) @ np.array([*place, 1.0])
        x, y = (
            int(np.clip(v / self.plate[0].shape[0] * level.shape[0], 0, level.shape[0] - 1))
            for v in at[:2]
        )
        return self.plate_colours(level[y, x].astype(np.float32))

    def _bystander(
        self, rng: np.random.Generator, actor: Actor, colours: ColourMap, company: float
    ) -> Actor:
        """Place an actor near the target's way."""
        turn, far = rng.uniform(0, 2 * np.pi), self.size * rng.uniform(0.8, 3.2)
        x, y = self.target.anchor
        anchor = (x + far * np.cos(turn), y + 0.7 * far * np.sin(turn))
        front = bool(rng.random() < 0.3)
        return replace(actor, colours=colours, anchor=anchor, company=company, front=front)

    def _occlude(self, rng: np.random.Generator, t: float) -> None:
        """Let something pass before the target around time ``t``."""
        size = self.size
        full = rng.random() < self.style.full_occlusion
        place = self._target_place(t)
        offset = rng.normal(0, 0.12 if full else 0.4, 2) * size
        speed = size * np.exp(rng.uniform(np.log(0.02), np.log(0.12)))
        turn = rng.choice([0.0, np.pi]) + rng.normal(0, 0.25)
        velocity = (speed * np.cos(turn), speed * np.sin(turn), t)
        at = (float(place[0] + offset[0]), float(place[1] + offset[1]))
        if rng.random() < 0.35:
            sprite = self.bank.sprite(int(rng.integers(self.bank.sprites)), self.turn)
            if sprite is not self.target.sprite:
                grow = rng.uniform(1.3, 2.0) if full else rng.uniform(0.6, 1.3)
                actor = self._actor(rng, sprite, size * grow)
                self.actors.append(
                    replace(actor, colours=self._free_colours(rng, sprite), anchor=at,
                            velocity=velocity, front=True)
                )  # fmt: skip
                return
        extent = size * (rng.uniform(1.6, 2.4) if full else rng.uniform(0.3, 1.2))
        static = rng.random() < 0.5
        slab = self._slab(rng, np.array(at), extent, True, full)
        if not static:
            self.slabs.append(replace(slab, velocity=velocity))
            return
        # Static in the world: it must lie where the camera then sees the target.
        camera = self._camera(self._wander.at(t), t)
        x, y, _ = np.linalg.inv(camera) @ np.array([*at, 1.0])
        self.slabs.append(replace(slab, anchor=(float(x), float(y))))

    def _slab(
        self, rng: np.random.Generator, place: np.ndarray, extent: float, front: bool,
        full: bool = False,
    ) -> Slab:  # fmt: skip
        """Draw a post, board, bush, foliage or wall of about ``extent`` px."""
        kind = rng.random()
        tall = 3.0 * max(self.frame_wh)
        if kind < 0.25:
            width = extent * (0.6 if full else rng.uniform(0.2, 0.7))
            outlines = [rounded_box(width, tall, 0.0)]
        elif kind < 0.4 and not full:
            outlines = [rounded_box(tall, extent * rng.uniform(0.15, 0.5), 0.0)]
        elif kind < 0.65:
            outlines = [rounded_box(extent * rng.uniform(0.7, 1.4), extent, rng.uniform(0, 0.6))]
        elif kind < 0.8 or full:
            outlines = [polygon_blob(rng, 28, 0.25) * extent * 0.6]
        else:  # foliage
            outlines = []
            for _ in range(int(rng.integers(8, 26))):
                leaf = polygon_blob(rng, 9, 0.1) * (rng.uniform(0.05, 0.3), rng.uniform(0.03, 0.12))
                a = rng.uniform(0, np.pi)
                leaf = leaf @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
                outlines.append((leaf + rng.normal(0, 0.3, 2)) * extent)
        lean = rng.normal(0, 0.08)
        rotation = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
        same = rng.random() < 0.4
        plate = self.plate if same else self.bank.plate(
            int(rng.integers(self.bank.plates)), self.turn
        )  # fmt: skip
        mean = plate[-1].reshape(-1, 3).mean(axis=0)
        colours = self.plate_colours
        if not same:
            hue = rng.normal(0, 25)
            level = turned(mean, hue, 0.8) + np.float32(rng.normal(0, 30))
            colours = recolouring(mean, level, hue, 0.8, np.exp(rng.normal(-0.2, 0.4)))
        texel = max(0.4, extent / 150) * rng.uniform(0.5, 1.5)
        return Slab(
            outlines=tuple(o @ rotation.T for o in outlines),
            plate=plate,
            colours=colours,
            texel=(texel, *rng.uniform(-250, 250, 2)),
            anchor=(float(place[0]), float(place[1])),
            velocity=(0.0, 0.0, 0.0),
            front=front,
            softness=rng.exponential(0.8) if front else 0.5,
        )

    # --- one instant ------------------------------------------------------------------------------

    def _instant(self, t: float) -> Instant:
        if t not in self._instants:
            if len(self._instants) > 8:
                self._instants.clear()
                self._fills.clear()
            self._instants[t] = self._settle(t)
        return self._instants[t]

    def _settle(self, t: float) -> Instant:
        values, before = self._wander.at(t), self._wander.at(t - 1)
        camera, past = self._camera(values, t), self._camera(before, t - 1)
        middle = np.array([self.frame_wh[0] / 2, self.frame_wh[1] / 2, 1.0])
        zoom = float(np.exp(values[self._camera_channels[2]]))
        poses, roots, speeds = [], [], []
        place, place_before = self._target_place(t, values), self._target_place(t - 1, before)
        for i, actor in enumerate(self.actors):
            at = place if i == 0 else self._place_of(actor, values, t, place)
            was = place_before if i == 0 else self._place_of(actor, before, t - 1, place_before)
            _, _, log_scale, angle, log_aspect, yaw = values[list(actor.channels)]
            turn = actor.tilt + angle + actor.spin * t
            if i == 0 or actor.front or actor.company > 0:
                grow = zoom
            else:
                grow = 1.0
            scale = actor.scale * grow * np.exp(np.clip(log_scale, -0.8, 0.8))
            stretch = np.exp(log_aspect / 2)
            c, s = np.cos(turn), np.sin(turn)
            shape = np.diag([scale * stretch * actor.flip, scale / stretch])
            root = np.eye(3)
            root[:2, :2] = np.array([[c, -s], [s, c]]) @ shape
            root[:2, 2] = at
            yaw = float(actor.yaw[0] + actor.yaw[1] * t + yaw)
            if actor.sprite.turns < np.pi:
                yaw = float(actor.sprite.turns * np.tanh(yaw / actor.sprite.turns))
            pose = Pose(yaw, actor.gait[0] + actor.gait[1] * t, actor.swing,
                        self.light.direction * actor.flip)  # fmt: skip
            poses.append(pose)
            roots.append(root)
            speeds.append(at - was)
        gain, bias, gamma, *cast = (values[c] for c in self._light_channels[:6])
        level = np.arange(256) / 255
        curve = level ** np.exp(gamma + self.exposure[1]) * np.exp(gain + self.exposure[0])
        tone = 255 * curve[:, None] * (1 + np.array(cast)) + bias
        return Instant(
            t=t,
            camera=camera,
            poses=tuple(poses),
            roots=tuple(roots),
            speeds=tuple(speeds),
            camera_speed=((camera - past) @ middle)[:2],
            tone=np.clip(np.rint(tone), 0, 255).astype(np.uint8)[None],
            shadow_at=float(values[self._light_channels[6]]),
            blur=self.lens.defocus * float(np.clip(0.5 + values[self._light_channels[7]], 0, 1)),
        )

    def _camera(self, values: np.ndarray, t: float) -> np.ndarray:
        """Return the map from world to frame px, 3 × 3."""
        pan_x, pan_y, zoom, roll, shake_x, shake_y = values[list(self._camera_channels)]
        width, height = self.frame_wh
        scale = np.exp(zoom)
        c, s = scale * np.cos(roll), scale * np.sin(roll)
        x = -width / 2 + pan_x + self._pan[0] * (t - self.length / 2)
        y = -height / 2 + pan_y + self._pan[1] * (t - self.length / 2)
        return np.array(
            [
                [c, -s, width / 2 + c * x - s * y + shake_x],
                [s, c, height / 2 + s * x + c * y + shake_y],
                [0, 0, 1.0],
            ]
        )

    def _target_place(self, t: float, values: np.ndarray | None = None) -> np.ndarray:
        if values is None:
            values = self._wander.at(t)
        actor = self.actors[0]
        x = actor.anchor[0] + values[actor.channels[0]]
        y = actor.anchor[1] + values[actor.channels[1]]
        for start, duration, dx, dy in actor.jumps:
            step = smooth_step(t, start, duration)
            x, y = x + dx * step, y + dy * step
        width, height = self.frame_wh
        shake = values[list(self._camera_channels[4:6])]
        margin_x, margin_y = min(self.margin, width * 0.4), min(self.margin, height * 0.4)
        inside = fold(x, margin_x, width - margin_x), fold(y, margin_y, height - margin_y)
        return np.array(inside) + shake

    def _place_of(
        self, actor: Actor, values: np.ndarray, t: float, target: np.ndarray
    ) -> np.ndarray:
        vx, vy, since = actor.velocity
        if since > 0:
            return np.array(actor.anchor) + np.array([vx, vy]) * (t - since)
        own = values[list(actor.channels[:2])]
        company = actor.company * (target - np.array(self.target.anchor))
        return np.array(actor.anchor) + own + company

    def _slab_matrix(self, slab: Slab, now: Instant) -> np.ndarray:
        """Return the map from the slab's px to frame px, 3 × 3."""
        vx, vy, since = slab.velocity
        move = np.eye(3)
        if since > 0:  # moves over the frame
            move[:2, 2] = np.array(slab.anchor) + np.array([vx, vy]) * (now.t - since)
            return move
        move[:2, 2] = slab.anchor
        return now.camera @ move

    # --- drawing ----------------------------------------------------------------------------------

    def _finished(self, t: float, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Draw a part of the frame at the frame's resolution, through lens and compression."""
        lens, now = self.lens, self._instant(t)
        if lens.coarse and min(width, height) >= 2:
            half = (height + 1) // 2, (width + 1) // 2
            picture = self._drawn(t, x, y, half, 0.5)
            picture = cv2.resize(picture, (half[1] * 2, half[0] * 2))[:height, :width]
            picture = np.ascontiguousarray(picture)
        else:
            picture = self._drawn(t, x, y, (height, width), 1.0)
        picture = self._through_lens(picture, now, 1.0)
        picture = self._noisy(picture, t, x, y, lens.noise)
        return self._compressed(picture, lens.quality)

    def _reduced(
        self, t: float, x: float, y: float, out_hw: tuple[int, int], scale: float
    ) -> np.ndarray:
        """Draw a part of the frame at a lower resolution; reduction averages noise away."""
        lens, now = self.lens, self._instant(t)
        picture = self._drawn(t, x, y, out_hw, scale)
        picture = self._through_lens(picture, now, scale)
        picture = self._noisy(picture, t, int(x), int(y), lens.noise * scale)
        if scale > 0.6 and lens.quality < 90:
            return self._compressed(picture, min(95, round(lens.quality + 30 * (1 - scale))))
        return picture

    def _drawn(
        self, t: float, x: float, y: float, out_hw: tuple[int, int], scale: float
    ) -> np.ndarray:
        """Draw background, scenery, actors and light; ``x, y`` is the upper left corner."""
        now = self._instant(t)
        view = np.array([[scale, 0, -x * scale], [0, scale, -y * scale], [0, 0, 1.0]])
        picture = _warped(self.plate, view @ now.camera @ self.plate_to_world, out_hw)
        picture = cv2.transform(picture, self.plate_colours.for_opaque())
        lens = self.lens
        if lens.shutter and not lens.coarse:
            picture = _smeared(picture, now.camera_speed * lens.shutter * scale)
        for slab in self.slabs:
            if not slab.front:
                self._lay_slab_(picture, slab, now, view, scale)
        order = sorted(range(len(self.actors)), key=lambda i: (self.actors[i].front, i == 0))
        for i in order:
            self._lay_actor_(picture, i, now, view, scale)
        for slab in self.slabs:
            if slab.front:
                self._lay_slab_(picture, slab, now, view, scale)
        return self._lit(picture, now, x, y, scale)

    def _lay_actor_(
        self, picture: np.ndarray, i: int, now: Instant, view: np.ndarray, scale: float
    ) -> None:
        actor, pose, root = self.actors[i], now.poses[i], now.roots[i]
        smear = now.speeds[i] * self.lens.shutter * scale
        matrix = view @ root
        box = actor.sprite.box_xyxy(pose, matrix, counted_only=False)
        if self.light.foot_shadow and actor.sprite.stands:
            self._lay_foot_shadow_(picture, box)
        reach = int(np.abs(smear).max()) + 2
        left, top = np.maximum(np.floor(box[:2]).astype(int) - reach, 0)
        right, bottom = np.ceil(box[2:]).astype(int) + reach
        right, bottom = min(right, picture.shape[1]), min(bottom, picture.shape[0])
        if left >= right or top >= bottom:
            return
        moved = matrix.copy()
        moved[:2, 2] -= (left, top)
        layer = actor.sprite.draw(pose, moved, (bottom - top, right - left))
        layer = cv2.transform(layer, actor.colours.for_premultiplied())
        if self.lens.shutter:
            layer = _smeared(layer, smear)
        blend_(picture[top:bottom, left:right], layer)

    def _lay_foot_shadow_(self, picture: np.ndarray, box: np.ndarray) -> None:
        """Darken the ground at the foot of a box."""
        width = box[2] - box[0]
        cx, cy = (box[0] + box[2]) / 2 + 0.2 * width * self.light.direction, box[3]
        rx, ry = 0.55 * width, 0.1 * width + 1
        left, top = max(0, int(cx - 1.5 * rx)), max(0, int(cy - 2 * ry))
        right, bottom = (
            min(picture.shape[1], int(cx + 1.5 * rx) + 1),
            min(picture.shape[0], int(cy + 2 * ry) + 1),
        )
        if left >= right or top >= bottom:
            return
        xs = (np.arange(left, right, dtype=np.float32) + 0.5 - cx) / rx
        ys = (np.arange(top, bottom, dtype=np.float32) + 0.5 - cy) / ry
        near = np.exp(-1.2 * (xs[None] ** 2 + ys[:, None] ** 2))
        gain = np.rint(255 * (1 - self.light.foot_shadow * near)).astype(np.uint8)
        region = picture[top:bottom, left:right]
        region[...] = cv2.multiply(
            np.ascontiguousarray(region), cv2.merge([gain] * 3), scale=1 / 255
        )

    def _lay_slab_(
        self, picture: np.ndarray, slab: Slab, now: Instant, view: np.ndarray, scale: float
    ) -> None:
        matrix = view @ self._slab_matrix(slab, now)
        points = np.concatenate(slab.outlines) @ matrix[:2, :2].T + matrix[:2, 2]
        reach = 3 * slab.softness * scale + 2
        left, top = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
        right, bottom = np.ceil(points.max(axis=0) + reach).astype(int)
        right, bottom = min(right, picture.shape[1]), min(bottom, picture.shape[0])
        if left >= right or top >= bottom:
            return
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

    def _lit(
        self, picture: np.ndarray, now: Instant, x: float, y: float, scale: float
    ) -> np.ndarray:
        """Apply the light's gradient and moving shadow, and the tone curve."""
        light = self.light
        if light.shadow or any(light.gradient):
            height, width = picture.shape[:2]
            rows, columns = min(height, 33), min(width, 33)
            xs = x + (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns / scale)
            ys = y + (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows / scale)
            dx = (xs - self.frame_wh[0] / 2)[None]
            dy = (ys - self.frame_wh[1] / 2)[:, None]
            span = max(self.frame_wh) / 2
            gain = 1 + light.gradient[0] * dx / span + light.gradient[1] * dy / span
            if light.shadow:
                nx, ny = light.shadow_normal
                depth = (nx * dx + ny * dy - now.shadow_at) / light.shadow_width
                gain = gain * (1 - light.shadow / (1 + np.exp(-np.clip(4 * depth, -30, 30))))
            field = np.clip(gain * 128, 0, 255).astype(np.uint8)
            field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
            picture = cv2.multiply(picture, cv2.merge([field] * 3), scale=1 / 128)
        return self._toned(picture, now.t)

    def _toned(self, picture: np.ndarray, t: float) -> np.ndarray:
        if not self.style.light:
            return picture
        return np.asarray(cv2.LUT(picture, self._instant(t).tone))

    def _through_lens(self, picture: np.ndarray, now: Instant, scale: float) -> np.ndarray:
        lens = self.lens
        sigma = float(np.hypot(lens.softness, now.blur)) * scale
        if sigma > 0.35:
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        if lens.sharpening and scale > 0.5:
            soft = cv2.GaussianBlur(picture, (0, 0), 1.2 * scale)
            picture = cv2.addWeighted(picture, 1 + lens.sharpening, soft, -lens.sharpening, 0)
        if lens.grey:
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            picture = cv2.merge([grey, grey, grey])
        return np.asarray(picture)

    def _noisy(self, picture: np.ndarray, t: float, x: int, y: int, level: float) -> np.ndarray:
        if level < 0.4:
            return picture
        tile = self.bank.sensor_noise()
        size = tile.shape[0]
        # Another part of the tile for every frame, but the same for every window of one frame.
        shift_y, shift_x = (self.seed + round(t) * 7919) % size, (round(t) * 104729) % size
        height, width = picture.shape[:2]
        rows = (np.arange(height) + y + shift_y) % size
        columns = (np.arange(width) + x + shift_x) % size
        noise = tile[rows[:, None], columns[None]]
        if self.lens.grey:
            noise = cv2.merge([noise[..., 0]] * 3)
        return np.asarray(cv2.addWeighted(picture, 1.0, noise, level / 32, -128 * level / 32))

    def _compressed(self, picture: np.ndarray, quality: int) -> np.ndarray:
        if quality >= 100:
            return picture
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


@lru_cache(maxsize=64)
def _numbers_of(count: int, family: str | None) -> tuple[int, ...]:
    """Return the numbers of the sprites of a family."""
    probe = Bank(sprites=count)
    return tuple(i for i in range(count) if family is None or probe.family(i) == family)


def _warped(
    levels: tuple[np.ndarray, ...], matrix: np.ndarray, out_hw: tuple[int, int]
) -> np.ndarray:
    """Draw a picture, mirrored at its borders, under a map from its px to the output's."""
    scale = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    level = int(np.clip(np.log2(1 / scale) + 0.35, 0, len(levels) - 1))
    grow = levels[0].shape[0] / levels[level].shape[0]
    # OpenCV counts pixel centres as whole numbers, here they lie at + 0.5.
    to_full = np.array([[grow, 0, 0.5 * grow], [0, grow, 0.5 * grow], [0, 0, 1.0]])
    full = matrix @ to_full
    full[:2, 2] -= 0.5
    return np.asarray(
        cv2.warpAffine(
            levels[level], full[:2], (out_hw[1], out_hw[0]), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )  # fmt: skip


def _smeared(picture: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Blur a picture along a way, px; ways below 1.5 px leave it as it is."""
    length = float(np.hypot(*way))
    if length < 1.5:
        return picture
    length = min(length, 40.0)
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    step = way / np.hypot(*way) * length / 2
    start, end = ((half - step) * 16).round().astype(int), ((half + step) * 16).round().astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()))


def _slab_mask(slab: Slab, matrix: np.ndarray, out_hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(out_hw, np.uint8)
    for outline in slab.outlines:
        points = outline @ matrix[:2, :2].T + matrix[:2, 2] - 0.5
        # Far corners would overflow the fixed-point numbers that OpenCV draws with.
        points = np.clip(points, -8000, 8000)
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask
