"""What stands in a scene: actors and scenery, and where they are at one instant."""

from dataclasses import dataclass, field, replace

import numpy as np

from .bank import Bank
from .palettes import ColourMap, recolouring, turned
from .sprites import Figure, Pose, Sprite
from .textures import polygon_blob, rounded_box


@dataclass(frozen=True)
class Actor:
    """A sprite with its colours and its way through the scene.

    Args:
        sprite: The sprite.
        scale: px per unit before any change of scale.
        channels: Its motion channels: x, y, log scale, in-plane angle, log aspect, yaw.
        flip: -1 mirrors it.
        spin: Steady in-plane rotation, rad a frame.
        yaw: Yaw at time 0, and steady turn, rad a frame.
        gait: Phase at time 0, and rad a frame.
        swing: Factor on the joints' amplitudes.
        tilt: In-plane angle at rest, rad.
        colours: How the sprite's colours are changed.
        front: Whether it passes in front of the target.
        anchor: Its place at rest, frame px.
        passing: For one that crosses the frame in a straight line: motion in x and y, px a frame,
            and the instant at which it is at the anchor.
        company: How far it moves along with the target, 0 to 1.
        jumps: Jumps of the target: instant, duration, dx, dy.
    """

    sprite: Sprite
    scale: float
    channels: slice
    flip: float
    spin: float
    yaw: tuple[float, float]
    gait: tuple[float, float]
    swing: float
    tilt: float
    colours: ColourMap
    front: bool = False
    anchor: tuple[float, float] = (0.0, 0.0)
    passing: tuple[float, float, float] | None = None
    company: float = 0.0
    jumps: tuple[tuple[float, float, float, float], ...] = ()

    def pose(self, values: np.ndarray, t: float, light: float) -> Pose:
        """Return the pose at time ``t``, given the values of all motion channels."""
        yaw = float(self.yaw[0] + self.yaw[1] * t + values[self.channels][5])
        limit = self.sprite.turns
        if limit < np.pi:
            yaw = float(limit * np.tanh(yaw / limit))
        phase = self.gait[0] + self.gait[1] * t
        return Pose(yaw, phase, self.swing, light * self.flip)

    def root(
        self, values: np.ndarray, t: float, place: tuple[float, float], zoom: float
    ) -> np.ndarray:
        """Return the map of the root's units to frame px, 3 × 3."""
        _, _, log_scale, angle, log_aspect, _ = values[self.channels].tolist()
        scale = self.scale * zoom * np.exp(min(max(log_scale, -0.8), 0.8))
        wide, high = scale * np.exp(log_aspect / 2) * self.flip, scale * np.exp(-log_aspect / 2)
        turn = self.tilt + angle + self.spin * t
        c, s = np.cos(turn), np.sin(turn)
        return np.array(
            [[c * wide, -s * high, place[0]], [s * wide, c * high, place[1]], [0, 0, 1]]
        )


@dataclass(frozen=True)
class Slab:
    """A piece of scenery with a background's texture, before or behind the target.

    Args:
        outlines: Polygons around the anchor, px.
        plate: Mip levels of its texture.
        colours: How its colours are changed.
        texel: px per texel, and where the texture starts.
        anchor: Its place: in the world, or, if it passes, in the frame.
        passing: Motion over the frame, px a frame, and the instant at which it is at the anchor.
        front: Whether it is before the target.
        softness: Blur of its edge, px.
    """

    outlines: tuple[np.ndarray, ...]
    plate: tuple[np.ndarray, ...]
    colours: ColourMap
    texel: tuple[float, float, float]
    anchor: tuple[float, float]
    front: bool
    softness: float
    passing: tuple[float, float, float] | None = None

    def matrix(self, now: "Instant") -> np.ndarray:
        """Return the map from its px to frame px, 3 × 3."""
        move = np.eye(3)
        if self.passing is None:
            move[:2, 2] = self.anchor
            return now.camera @ move
        vx, vy, since = self.passing
        move[0, 2] = self.anchor[0] + vx * (now.t - since)
        move[1, 2] = self.anchor[1] + vy * (now.t - since)
        return move

    def placed(self, place: tuple[float, float]) -> "Slab":
        """Return the slab at another place."""
        return replace(self, anchor=place)


@dataclass(frozen=True)
class Instant:
    """What holds at one time.

    Args:
        t: Time, frames.
        camera: Map from world to frame px, 3 × 3.
        camera_step: Motion of the picture's middle since the frame before, px.
        actors: The actors.
        poses: Their poses.
        roots: Maps of their roots to frame px, 3 × 3 each.
        steps: Their motions since the frame before, px, shape ``(A, 2)``.
        tone: Tone curve, uint8 ``(1, 256, 3)``.
        shadow_at: Where the shadow's edge lies along its normal, px from the frame's middle.
        defocus: Blur, px.
    """

    t: float
    camera: np.ndarray
    camera_step: np.ndarray
    actors: tuple[Actor, ...]
    poses: tuple[Pose, ...]
    roots: tuple[np.ndarray, ...]
    steps: np.ndarray
    tone: np.ndarray
    shadow_at: float
    defocus: float
    _figures: dict[int, Figure] = field(default_factory=dict, repr=False)

    def figure(self, i: int) -> Figure:
        """Return the figure of actor ``i``; kept once made."""
        if i not in self._figures:
            self._figures[i] = Figure(self.actors[i].sprite, self.poses[i], self.roots[i])
        return self._figures[i]

    def near(self, i: int, box_xyxy: np.ndarray) -> bool:
        """Return whether actor ``i`` may reach into a box; quick, never wrongly false."""
        root = self.roots[i]
        reach = self.actors[i].sprite.reach * float(np.abs(root[:2, :2]).sum(axis=1).max())
        x, y = root[0, 2], root[1, 2]
        x1, y1, x2, y2 = box_xyxy
        return bool(x1 - reach < x < x2 + reach and y1 - reach < y < y2 + reach)


def draw_slab(
    rng: np.random.Generator,
    bank: Bank,
    extent: float,
    frame_wh: tuple[int, int],
    front: bool,
    full: bool = False,
    turn: int = 0,
) -> Slab:
    """Draw a post, rail, board, bush or foliage at the origin.

    Args:
        rng: Source of chance.
        bank: Where its texture comes from.
        extent: About its size, px; posts and rails reach across the frame.
        frame_wh: Frame size, px.
        front: Whether it stands before the target.
        full: Whether it must be able to hide all that is ``extent / 2`` large.
        turn: The bank's turn.
    """
    kind = rng.random()
    across = 3.0 * max(frame_wh)
    if kind < 0.25:
        width = extent * (0.7 if full else rng.uniform(0.2, 0.7))
        outlines = [rounded_box(width, across, 0.0)]
    elif kind < 0.4 and not full:
        outlines = [rounded_box(across, extent * rng.uniform(0.15, 0.5), 0.0)]
    elif kind < 0.65:
        outlines = [rounded_box(extent * rng.uniform(0.7, 1.4), extent, rng.uniform(0, 0.6))]
    elif kind < 0.8 or full:
        outlines = [polygon_blob(rng, 28, 0.25) * extent * 0.6]
    else:
        outlines = []
        for _ in range(int(rng.integers(8, 26))):
            leaf = polygon_blob(rng, 9, 0.1) * (rng.uniform(0.05, 0.3), rng.uniform(0.03, 0.12))
            outlines.append(
                (leaf @ _rotation(rng.uniform(0, np.pi)) + rng.normal(0, 0.3, 2)) * extent
            )
    lean = _rotation(rng.normal(0, 0.08))
    plate = bank.plate(int(rng.integers(bank.plates)), turn)
    mean = plate[-1].reshape(-1, 3).mean(axis=0)
    hue = rng.normal(0, 12)
    level = turned(mean, hue, 0.8) + np.float32(rng.normal(0, 25))
    return Slab(
        outlines=tuple(o @ lean for o in outlines),
        plate=plate,
        colours=recolouring(mean, level, hue, 0.8, np.exp(rng.normal(-0.2, 0.4))),
        texel=(max(0.4, extent / 150) * rng.uniform(0.5, 1.5), *rng.uniform(-250, 250, 2)),
        anchor=(0.0, 0.0),
        front=front,
        softness=rng.exponential(0.8) if front else 0.5,
    )


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])
