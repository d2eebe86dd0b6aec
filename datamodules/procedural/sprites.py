"""Targets: sprites made of textured parts on a skeleton, and how a pose of one is drawn.

A sprite lives in its own units: it is about 1 high, y points down and the origin is its root. A part
is a textured patch with an outline; what it shows depends on how far it has turned about its vertical
axis (``yaw``), so a turn foreshortens it *and* brings other texture into sight.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property
from math import ceil, cos, floor, hypot, sin
from typing import Any, Literal

import cv2
import numpy as np

TEXELS = 128
"""Texture pixels per unit of a sprite."""


@dataclass(frozen=True)
class Pose:
    """How a sprite stands at one instant.

    Args:
        yaw: Turn about the vertical axis, rad.
        phase: Phase of the gait, rad.
        swing: Factor on the amplitude of the joints.
        light: Where the light comes from, -1 left to 1 right.
    """

    yaw: float = 0.0
    phase: float = 0.0
    swing: float = 1.0
    light: float = 0.0


@dataclass(frozen=True)
class Part:
    """One textured patch of a sprite.

    Args:
        kind: ``flat``: a plate; ``round``: a body of revolution whose surface slides past its
            outline; ``box``: an upright box that shows two of its four sides.
        surface: Mip levels of the texture, uint8 RGBA premultiplied; for ``round`` 360 degrees wide,
            for ``box`` the four sides next to each other.
        mask: Mip levels of a round part's outline, uint8; otherwise empty.
        rect: Where the patch lies in the part's units, xyxy; the origin is its joint.
        outline: Points on the outline of what is drawn, shape ``(N, 2)``, units.
        parent: Index of the part it hangs from, -1 for the root.
        joint: Where it hangs in the parent's units.
        rest: Angle at rest, rad.
        swing: Amplitude of its swing, rad.
        lag: Phase of its swing, rad.
        depth: Apparent width seen from the side over that from the front.
        sides: Widths of a box's sides (long, short), units.
        wobble: Amplitude and phase of a round part's changing outline, shape ``(K, 2)``.
        counted: Whether the part belongs to the target's box.
    """

    kind: Literal["flat", "round", "box"]
    surface: tuple[np.ndarray, ...]
    mask: tuple[np.ndarray, ...]
    rect: tuple[float, float, float, float]
    outline: np.ndarray
    parent: int = -1
    joint: tuple[float, float] = (0.0, 0.0)
    rest: float = 0.0
    swing: float = 0.0
    lag: float = 0.0
    depth: float = 1.0
    sides: tuple[float, float] = (0.0, 0.0)
    wobble: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    counted: bool = True

    def width_factor(self, yaw: float) -> float:
        """Return the apparent width over that at yaw 0; the box part's patch has it built in."""
        if self.kind == "box":
            return 1.0
        return hypot(cos(yaw), self.depth * sin(yaw))

    def shape(self, pose: Pose) -> np.ndarray:
        """Return the outline in this pose, shape ``(N, 2)``, units."""
        if self.kind == "box":
            spans = self._box_spans(pose.yaw)
            width = sum(w for _, w in spans)
            points, x = [], -width / 2
            height = len(self.outline) // 4  # (4 sides × samples, 2): top and bottom of a column
            for side, w in spans:
                rows = self.outline[side * height : (side + 1) * height]
                xs = x + (np.arange(height) + 0.5) / height * w
                keep = rows[:, 0] < rows[:, 1]
                points += [np.stack([xs, rows[:, 0]], 1)[keep], np.stack([xs, rows[:, 1]], 1)[keep]]
                # The ends of the span, which column centres miss by half a column.
                for at, row in ((x, rows[0]), (x + w, rows[-1])):
                    if row[0] < row[1]:
                        points.append(np.array([[at, row[0]], [at, row[1]]]))
                x += w
            return np.concatenate(points)
        outline = self._wobbled(pose.phase) if len(self.wobble) else self.outline
        return outline * (self.width_factor(pose.yaw), 1.0)

    def rectangle(self, pose: Pose) -> tuple[float, float, float, float]:
        """Return where the patch lies in this pose, xyxy units."""
        x1, y1, x2, y2 = self.rect
        if self.kind == "box":
            half = sum(w for _, w in self._box_spans(pose.yaw)) / 2
            return -half, y1, half, y2
        factor = self.width_factor(pose.yaw)
        return x1 * factor, y1, x2 * factor, y2

    def patch(self, pose: Pose, level: int) -> np.ndarray:
        """Return the texture seen in this pose, uint8 RGBA premultiplied, at a mip level."""
        level = min(level, len(self.surface) - 1)
        surface = self.surface[level]
        if self.kind == "flat":
            return surface
        if self.kind == "box":
            return self._box_patch(surface, pose)
        mask = self.mask[level] if not len(self.wobble) else self._wobbled_mask(level, pose.phase)
        height, width = mask.shape
        angle = np.arcsin(np.linspace(-1, 1, width + 1, dtype=np.float32)[:-1] + 1 / width)
        around = surface.shape[1]
        columns = ((angle + np.pi - pose.yaw) * (around / (2 * np.pi))) % around
        # Rounded, a tiny negative number modulo n is n itself.
        seen = surface[:, columns.astype(np.intp) % around]  # (h, w, 4)
        shade = 0.66 + 0.34 * np.cos(angle - 0.9 * pose.light)
        weight = cv2.multiply(
            mask, np.tile((255 * shade).astype(np.uint8), (height, 1)), scale=1 / 255
        )
        patch = cv2.multiply(seen, cv2.merge([weight, weight, weight, mask]), scale=1 / 255)
        return np.asarray(patch)

    def _box_spans(self, yaw: float) -> list[tuple[int, float]]:
        """Return the sides in sight from left to right with their apparent widths."""
        spans = []
        for side in range(4):
            # Wrapped to [-pi, pi), so that order means left to right.
            turn = (side * np.pi / 2 - yaw + np.pi) % (2 * np.pi) - np.pi
            if np.cos(turn) > 1e-3:
                spans.append((turn, side, self.sides[side % 2] * np.cos(turn)))
        return [(side, float(width)) for _, side, width in sorted(spans)]

    def _box_patch(self, surface: np.ndarray, pose: Pose) -> np.ndarray:
        texels = surface.shape[0] / (self.rect[3] - self.rect[1])
        long, short = self.sides
        starts = np.cumsum([0, long, short, long]) / (2 * (long + short)) * surface.shape[1]
        slices = []
        for side, width in self._box_spans(pose.yaw):
            count = max(1, round(width * texels))
            first = round(starts[side])
            last = max(first + 1, round(starts[side] + self.sides[side % 2] * texels))
            face = surface[:, first:last]
            turn = np.cos(side * np.pi / 2 - pose.yaw - 0.9 * pose.light)
            face = cv2.resize(face, (count, surface.shape[0]), interpolation=cv2.INTER_LINEAR)
            shade = float(0.7 + 0.3 * turn)
            slices.append(cv2.multiply(face, (shade, shade, shade, 1.0)))
        return np.hstack(slices)

    def _wobbled(self, phase: float) -> np.ndarray:
        angles = np.arctan2(self.outline[:, 1], self.outline[:, 0])
        orders = np.arange(1, len(self.wobble) + 1)[:, None]
        change = self.wobble[:, :1] * np.sin(phase * (0.4 + 0.3 * orders) + self.wobble[:, 1:])
        factor = 1 + (change * np.cos(orders * angles + self.wobble[:, 1:] * 3)).sum(0)
        x1, y1, x2, y2 = self.rect
        return np.asarray(np.clip(self.outline * factor[:, None], (x1, y1), (x2, y2)))

    def _wobbled_mask(self, level: int, phase: float) -> np.ndarray:
        return draw_mask(self._wobbled(phase), self.rect, self.mask[level].shape)


@dataclass(frozen=True)
class Sprite:
    """A textured figure.

    Args:
        family: What it is, e.g. ``person``.
        parts: Parts in drawing order; a parent may come after its children.
        mean_colour: Mean colour of the target's parts, shape ``(3,)``.
        size_wh: Box at rest, units.
        turns: Largest yaw that still looks right, rad; more than pi means all around.
        spins: Whether it may be seen at any in-plane angle.
        stands: Whether it stands on the ground and casts its shadow there.
    """

    family: str
    parts: tuple[Part, ...]
    mean_colour: np.ndarray
    size_wh: tuple[float, float]
    turns: float = 1.0
    spins: bool = False
    stands: bool = True

    @cached_property
    def reach(self) -> float:
        """Radius around the root that no pose leaves, units."""
        reaches = [0.0] * len(self.parts)
        for i in self.order:
            part = self.parts[i]
            above = 0.0 if part.parent < 0 else reaches[part.parent] + np.hypot(*part.joint)
            reaches[i] = float(above)
        extents = [
            max(np.hypot(x, y) for x in part.rect[::2] for y in part.rect[1::2])
            + sum(part.sides) / 2
            for part in self.parts
        ]
        return float(max(r + e for r, e in zip(reaches, extents, strict=True)))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indices of the parts, parents before children."""
        known: list[int] = []
        while len(known) < len(self.parts):
            known += [
                i
                for i, part in enumerate(self.parts)
                if i not in known and (part.parent < 0 or part.parent in known)
            ]
        return tuple(known)

    @cached_property
    def joints(self) -> tuple[np.ndarray, ...]:
        """Rest angle, swing, lag, joint x, joint y and depth of every part, ``(P,)`` each."""
        rows = [(p.rest, p.swing, p.lag, *p.joint, p.depth) for p in self.parts]
        return tuple(np.array(rows).T)

    @cached_property
    def fixed_outline(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Outline points of all parts, the part of each, and which count; if no pose bends them."""
        if any(part.kind == "box" or len(part.wobble) for part in self.parts):
            return None
        points = np.concatenate([part.outline for part in self.parts])
        owner = np.repeat(np.arange(len(self.parts)), [len(p.outline) for p in self.parts])
        return points, owner, np.array([p.counted for p in self.parts])[owner]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is derived."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Figure:
    """A sprite in one pose at one place.

    Args:
        sprite: The sprite.
        pose: Its pose.
        root: Map of the root's units to px, 3 × 3.

    Attributes:
        box_xyxy: Tight box of the outline of the counted parts, float64 ``(4,)``, px.
        whole_xyxy: The same of all parts.
    """

    def __init__(self, sprite: Sprite, pose: Pose, root: np.ndarray) -> None:
        self.sprite, self.pose = sprite, pose
        self.px_per_unit = float(np.sqrt(abs(root[0, 0] * root[1, 1] - root[0, 1] * root[1, 0])))
        rest, swing, lag, x, y, depth = sprite.joints
        squeeze = np.hypot(np.cos(pose.yaw), depth * np.sin(pose.yaw))
        angles = rest + swing * pose.swing * np.sin(pose.phase + lag)
        local = np.zeros((len(angles), 3, 3))
        local[:, 0, 0] = local[:, 1, 1] = np.cos(angles)
        local[:, 1, 0] = np.sin(angles)
        local[:, 0, 1] = -local[:, 1, 0]
        local[:, 0, 2], local[:, 1, 2], local[:, 2, 2] = x, y, 1.0
        self.matrices = np.empty_like(local)
        for i in sprite.order:
            parent = sprite.parts[i].parent
            above = root
            if parent >= 0:
                above = self.matrices[parent]
                local[i, 0, 2] *= squeeze[parent]  # a turned trunk brings its limbs together
            self.matrices[i] = above @ local[i]
        self.box_xyxy, self.whole_xyxy = self._boxes(squeeze)

    def draw(
        self, out_hw: tuple[int, int], scale: float, left: float, top: float, counted: bool = False
    ) -> np.ndarray:
        """Draw the sprite, uint8 RGBA premultiplied ``(H, W, 4)``.

        Args:
            out_hw: Size of the picture.
            scale: Its px per px of the figure's frame.
            left: Where its left edge lies in that frame.
            top: Where its upper edge lies in that frame.
            counted: Draw only the parts of the target's box.
        """
        layer = np.zeros((*out_hw, 4), np.uint8)
        matrices = self.matrices.copy()
        matrices[:, 0, 2] -= left
        matrices[:, 1, 2] -= top
        matrices[:, :2] *= scale
        shrink = TEXELS / (self.px_per_unit * scale)
        level = max(0, int(np.log2(shrink) + 0.35)) if shrink > 1 else 0
        for part, matrix in zip(self.sprite.parts, matrices, strict=True):
            if part.counted or not counted:
                _paste(layer, part, self.pose, matrix, level)
        return layer

    def _boxes(self, squeeze: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fixed = self.sprite.fixed_outline
        if fixed is not None:
            points, owner, counts = fixed
            xs, ys = points[:, 0] * squeeze[owner], points[:, 1]
            m = self.matrices[owner]
            placed = np.stack(
                [
                    m[:, 0, 0] * xs + m[:, 0, 1] * ys + m[:, 0, 2],
                    m[:, 1, 0] * xs + m[:, 1, 1] * ys + m[:, 1, 2],
                ],
                axis=1,
            )
        else:
            shapes = [part.shape(self.pose) for part in self.sprite.parts]
            placed = np.concatenate(
                [p @ m[:2, :2].T + m[:2, 2] for p, m in zip(shapes, self.matrices, strict=True)]
            )
            counted = [part.counted for part in self.sprite.parts]
            counts = np.repeat(counted, [len(p) for p in shapes])
        own = placed[counts]
        box = np.concatenate([own.min(axis=0), own.max(axis=0)])
        if counts.all():
            return box, box
        return box, np.concatenate([placed.min(axis=0), placed.max(axis=0)])


def mips(picture: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return a picture and its halved copies down to about 4 px."""
    levels = [np.ascontiguousarray(picture)]
    while min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        size = ((width + 1) // 2, (height + 1) // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA)))
    return tuple(levels)


def premultiplied(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return uint8 RGBA with the colours multiplied by the mask, ``(H, W, 4)``."""
    colours = np.clip(rgb, 0, 255) * (mask[..., None] / np.float32(255))
    return np.dstack([np.rint(colours).astype(np.uint8), mask])


def draw_mask(
    outline: np.ndarray, rect: tuple[float, float, float, float], shape_hw: tuple[int, ...]
) -> np.ndarray:
    """Fill an outline given in units, uint8 with soft edges."""
    mask = np.zeros(shape_hw[:2], np.uint8)
    x1, y1, x2, y2 = rect
    scale = np.array([shape_hw[1] / (x2 - x1), shape_hw[0] / (y2 - y1)])
    points = (outline - (x1, y1)) * scale - 0.5
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _paste(layer: np.ndarray, part: Part, pose: Pose, matrix: np.ndarray, level: int) -> None:
    """Draw a part over a layer, in place."""
    x1, y1, x2, y2 = part.rectangle(pose)
    (a, b, tx), (c, d, ty), _ = matrix.tolist()
    xs = sorted((a * x1 + b * y1, a * x2 + b * y1, a * x1 + b * y2, a * x2 + b * y2))
    ys = sorted((c * x1 + d * y1, c * x2 + d * y1, c * x1 + d * y2, c * x2 + d * y2))
    left, top = max(0, floor(xs[0] + tx) - 1), max(0, floor(ys[0] + ty) - 1)
    right = min(layer.shape[1], ceil(xs[3] + tx) + 1)
    bottom = min(layer.shape[0], ceil(ys[3] + ty) + 1)
    if left >= right or top >= bottom:
        return
    patch = part.patch(pose, level)
    # Patch px -> units -> px of the layer's region; pixel centres lie at + 0.5.
    sx, sy = (x2 - x1) / patch.shape[1], (y2 - y1) / patch.shape[0]
    ux, uy = x1 + 0.5 * sx, y1 + 0.5 * sy
    full = np.array(
        [
            [a * sx, b * sy, a * ux + b * uy + tx - left - 0.5],
            [c * sx, d * sy, c * ux + d * uy + ty - top - 0.5],
        ]
    )
    drawn = cv2.warpAffine(patch, full, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    blend_(layer[top:bottom, left:right], drawn)


def blend_(below: np.ndarray, above: np.ndarray) -> None:
    """Lay premultiplied RGBA over RGB or RGBA of the same size, in place."""
    clear = 255 - above[..., 3]
    channels = below.shape[2]
    kept = cv2.multiply(np.ascontiguousarray(below), cv2.merge([clear] * channels), scale=1 / 255)
    top = above if channels == 4 else cv2.cvtColor(above, cv2.COLOR_RGBA2RGB)
    below[...] = cv2.add(kept, top)
