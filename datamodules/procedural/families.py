"""The families of sprites: people, faces, vehicles, animals, objects and shapeless things."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from .palettes import SKIN, colour, draw_palette
from .sprites import TEXELS, Figure, Part, Pose, Sprite, draw_mask, mips, premultiplied
from .textures import Painter, polygon_blob, rounded_box

Noises = list[np.ndarray]
_PI = float(np.pi)


def draw_sprite(rng: np.random.Generator, noises: Noises, family: str | None = None) -> Sprite:
    """Draw a sprite.

    Args:
        rng: Source of chance.
        noises: Noise tiles to take grain from.
        family: One of :data:`FAMILIES`; by default people are the most frequent.
    """
    if family is None:
        names = list(FAMILIES)
        family = names[int(rng.choice(len(names), p=[FAMILIES[n][1] for n in names]))]
    return FAMILIES[family][0](rng, noises)


# --- building blocks ----------------------------------------------------------------------------


def _px(units: float) -> int:
    return max(4, round(units * TEXELS))


def _sprite(
    family: str, parts: list[Part], turns: float, spins: bool = False, stands: bool = True
) -> Sprite:
    sprite = Sprite(family, tuple(parts), np.zeros(3), (1.0, 1.0), turns, spins, stands)
    figure = Figure(sprite, Pose(), np.diag([48.0, 48.0, 1.0]))
    # Its mean colour steers contrast against the background, so only the target's parts count.
    layer = figure.draw((192, 192), 1.0, -96, -96, counted=True).reshape(-1, 4).sum(0)
    mean = (layer[:3] / max(1, layer[3]) * 255).astype(np.float32)
    width, height = (figure.box_xyxy[2:] - figure.box_xyxy[:2]) / 48
    return replace(sprite, mean_colour=mean, size_wh=(float(width), float(height)))


def _flat(
    picture: np.ndarray, outline: np.ndarray, rect: tuple[float, float, float, float]
) -> Part:
    mask = draw_mask(outline, rect, picture.shape)
    return Part("flat", mips(premultiplied(picture, mask)), (), rect, _hull(mask, rect))


def _round(
    surface: np.ndarray, outline: np.ndarray, rect: tuple[float, float, float, float], depth: float
) -> Part:
    x1, y1, x2, y2 = rect
    mask = draw_mask(outline, rect, (_px(y2 - y1), _px(x2 - x1)))
    opaque = np.full(surface.shape[:2], 255, np.uint8)
    levels = mips(premultiplied(surface, opaque))
    masks = mips(mask)
    count = min(len(levels), len(masks))
    # Both pyramids halve rounding up, so their heights agree at every level.
    return Part("round", levels[:count], masks[:count], rect, _hull(mask, rect), depth=depth)


def _hull(mask: np.ndarray, rect: tuple[float, float, float, float]) -> np.ndarray:
    """Return the convex hull of what a mask shows, shape ``(N, 2)``, units.

    Pointed corners of an outline are thinner than a texel and do not show: a box around the outline
    would be too large.
    """
    shown = mask > 127
    rows = np.flatnonzero(shown.any(axis=1))
    first = shown[rows].argmax(axis=1)
    last = mask.shape[1] - shown[rows, ::-1].argmax(axis=1)  # one past the last texel
    corners = np.concatenate(
        [np.stack([x, y], axis=1) for x in (first, last) for y in (rows, rows + 1)]
    )
    hull = cv2.convexHull(corners.astype(np.int32))[:, 0]
    x1, y1, x2, y2 = rect
    texel = np.array([(x2 - x1) / mask.shape[1], (y2 - y1) / mask.shape[0]])
    return np.asarray(hull * texel + np.array([x1, y1]))


def _bounds(outline: np.ndarray, margin: float = 0.02) -> tuple[float, float, float, float]:
    (x1, y1), (x2, y2) = outline.min(axis=0) - margin, outline.max(axis=0) + margin
    return float(x1), float(y1), float(x2), float(y2)


def _cloth(
    rng: np.random.Generator, noises: Noises, height: int, width: int, palette: np.ndarray
) -> Painter:
    """Return a painted piece of material: plain, striped, checked, patched or flowered."""
    pick = palette[rng.integers(len(palette), size=4)]
    p = Painter(rng, height, width, noises, pick[0], rng.uniform(2, 12))
    kind = rng.random()
    step = rng.uniform(0.05, 0.3) * height
    if kind < 0.12:
        for y in np.arange(rng.uniform(0, step), height, 2 * step):
            p.box(0, y, width, y + step, pick[1], 5)
    elif kind < 0.2:
        for x in np.arange(0, width, 2 * step):
            p.box(x, 0, x + step, height, pick[1], 5)
    elif kind < 0.26:
        for y in np.arange(0, height, 2 * step):
            for x in np.arange(0, width, 2 * step):
                p.box(x, y, x + step, y + step, pick[1], 5)
    elif kind < 0.42:
        p.leaves(pick, int(rng.integers(8, 60)), (1.5, 0.25 * height), grain=5)
    elif kind < 0.58:
        y = rng.uniform(0.2, 0.8) * height
        p.box(0, y, width, height, pick[1], 5)
    elif kind < 0.7:
        for _ in range(int(rng.integers(2, 6))):  # patches and pockets
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            w, h = rng.uniform(0.05, 0.3) * width, rng.uniform(0.1, 0.5) * height
            p.box(x, y, x + w, y + h, pick[int(rng.integers(4))], 5)
    if rng.random() < 0.35:  # writing or a badge at the front
        _writing(p, rng, width * 0.5, height * rng.uniform(0.2, 0.5), 0.12 * width, pick[2])
    return p


def _writing(
    p: Painter, rng: np.random.Generator, x: float, y: float, size: float, ink: np.ndarray
) -> None:
    """Paint letter-like strokes centred at ``x, y``."""
    for i in range(int(rng.integers(1, 6))):
        left = x - size + i * size * 0.55
        for _ in range(3):
            dx, dy = rng.uniform(0, 0.4 * size, 2), rng.uniform(0, size, 2)
            w = max(1, round(size * 0.16))
            p.line(left + dx[0], y + dy[0], left + dx[1], y + dy[1], ink, w)


def _folded(picture: np.ndarray, rng: np.random.Generator, strength: float = 0.09) -> np.ndarray:
    """Lighten and darken a surface along folds, and from its top to its foot."""
    height, width = picture.shape[:2]
    cell_x, cell_y = np.exp(rng.uniform(np.log(7), np.log(40), 2))
    grid = (max(2, int(height / cell_y)), max(2, int(width / cell_x)))
    light = rng.normal(1, strength, grid).astype(np.float32)
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_CUBIC)
    fall = rng.normal(0.08, 0.12)
    light = light * np.linspace(1 + fall, 1 - fall, height, dtype=np.float32)[:, None]
    return np.asarray(picture * light[..., None], dtype=np.float32)


def _skin(rng: np.random.Generator) -> np.ndarray:
    tone = np.array(SKIN[int(rng.integers(len(SKIN)))], np.float32)
    return np.asarray(tone * np.float32(rng.uniform(0.85, 1.1)) + rng.normal(0, 5, 3))


def _limb(
    rng: np.random.Generator,
    noises: Noises,
    length: float,
    widths: tuple[float, float],
    shade: np.ndarray,
    end: np.ndarray | None = None,
) -> Part:
    """Return a tapered limb that hangs from its joint; ``end`` colours its last fifth."""
    a, b = widths[0] / 2, widths[1] / 2
    foot = 0.0 if end is None else b * rng.uniform(0.0, 1.3)
    outline = np.array(
        [[-a, -a * 0.4], [0, -a], [a, -a * 0.4], [b, length * 0.9], [b + foot, length],
         [0, length + b * 0.4], [-b, length], [-b, length * 0.9]]
    )  # fmt: skip
    rect = _bounds(outline)
    height, width = _px(rect[3] - rect[1]), _px(rect[2] - rect[0])
    p = Painter(rng, height, width, noises, shade, rng.uniform(3, 10))
    if end is not None:
        p.box(0, height * rng.uniform(0.78, 0.9), width, height, end, 5)
    picture = _folded(p.render(), rng)
    across = np.cos(np.linspace(-1.2, 1.2, width, dtype=np.float32))
    return _flat(picture * (0.6 + 0.45 * across)[None, :, None], outline, rect)


def _head_surface(rng: np.random.Generator, noises: Noises, height: int, width: int) -> np.ndarray:
    """Paint a head once around: the face in the middle, hair at the back and on top."""
    skin = _skin(rng)
    hair = colour(rng.choice([18, 35, 60, 110, 170]), rng.uniform(0, 25), rng.normal(35, 12))
    p = Painter(rng, height, width, noises, hair, rng.uniform(6, 16))
    half = width * rng.uniform(0.19, 0.25)  # half the face's width: 70 to 90 degrees
    cx, brow = width / 2, height * rng.uniform(0.2, 0.34)
    if rng.random() < 0.93:
        p.box(cx - half, height * 0.5, cx + half, height, skin, 5, 0.1)
        p.ellipse(cx, height * 0.58, half, height * 0.58 - brow, skin, 0, 5, 0.1)
    p.box(0, height * rng.uniform(0.7, 1.1), width, height, skin * 0.9, 5)
    unit = height
    eye_y, eye_x = unit * rng.uniform(0.43, 0.5), half * rng.uniform(0.42, 0.52)
    lid, white = skin * 0.55, skin * 0.4 + 110
    for side in (-1, 1):
        x = cx + side * eye_x
        p.ellipse(x, eye_y, half * 0.3, unit * 0.055, skin * 0.8, 0, 4)
        p.ellipse(x, eye_y, half * 0.22, unit * 0.032, lid, 0, 3)
        p.ellipse(x, eye_y + 1, half * 0.17, unit * 0.02, white, 0, 2)
        p.ellipse(x, eye_y, half * 0.1, unit * 0.03, np.array([40.0, 28, 22]), 0, 2)
        y = eye_y - unit * rng.uniform(0.07, 0.1)
        p.line(x - half * 0.28, y, x + half * 0.28, y, hair * 0.9, max(1, round(unit * 0.03)))
        p.ellipse(cx + side * half * 0.1, unit * 0.66, half * 0.09, unit * 0.02, skin * 0.6, 0, 3)
        p.ellipse(cx + side * half * 0.6, unit * 0.65, half * 0.25, unit * 0.07, skin * 0.93, 0, 4)
    p.ellipse(cx, unit * 0.57, half * 0.1, unit * 0.1, skin * 1.08, 0, 3)
    lip = skin * np.array([0.85, 0.62, 0.6]) * rng.uniform(0.85, 1.15)
    p.ellipse(cx, unit * 0.8, half * rng.uniform(0.28, 0.4), unit * rng.uniform(0.012, 0.04), lip)
    if rng.random() < 0.2:  # glasses
        dark = np.array([25.0, 25, 28])
        for side in (-1, 1):
            if rng.random() < 0.4:
                p.ellipse(cx + side * eye_x, eye_y, half * 0.36, unit * 0.085, dark)
            for r in (0.0, 0.35):
                p.line(cx, eye_y - r * unit * 0.1, cx + side * half, eye_y, dark, 2)
    if rng.random() < 0.2:  # beard
        p.ellipse(cx, unit * 0.96, half * 0.8, unit * 0.17, hair, 0, 9)
    if rng.random() < 0.22:  # hat or cap
        cap = draw_palette(rng, 2, vivid=0.4)
        p.box(0, 0, width, unit * rng.uniform(0.2, 0.33), cap[0], 7)
        p.box(cx - half, unit * 0.26, cx + half, unit * 0.33, cap[1] * 0.7, 4)
    return p.render()


def _held(rng: np.random.Generator, noises: Noises, parts: list[Part]) -> list[Part]:
    """Put a hand and forearm to a third of things; they are not part of the target."""
    if rng.random() > 0.33:
        return parts
    skin = _skin(rng)
    sleeve = draw_palette(rng, 1)[0] if rng.random() < 0.5 else skin
    arm = _limb(rng, noises, rng.uniform(0.8, 1.6), (0.26, rng.uniform(0.3, 0.42)), skin, sleeve)
    side = rng.uniform(-1.9, 1.9)  # rad from straight below
    reach = rng.uniform(0.2, 0.42)
    arm = replace(
        arm, joint=(-reach * np.sin(side), reach * np.cos(side)), rest=side,
        counted=False,
    )  # fmt: skip
    if rng.random() < 0.7:  # behind the thing: drawn first, so every number moves by one
        moved = [replace(p, parent=p.parent + 1 if p.parent >= 0 else -1) for p in parts]
        return [replace(arm, parent=1), *moved]
    return [*parts, replace(arm, parent=0)]


# --- families -----------------------------------------------------------------------------------


def _person(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A person: the front or side of a body with swinging limbs."""
    palette = draw_palette(rng, 10, vivid=0.3)
    skin, stout = _skin(rng), np.exp(rng.normal(0, 0.16))
    side_on = rng.random() < 0.5
    stride = rng.uniform(0.3, 0.75) if side_on else rng.uniform(0.04, 0.25)
    leg, trunk = rng.uniform(0.4, 0.5), rng.uniform(0.33, 0.38)
    girth = 0.23 * stout * (0.75 if side_on else 1.0)
    head_h = rng.uniform(0.125, 0.17)
    torso_box = np.array(
        [[-0.42, 0.0], [-0.5, 0.12], [-0.44, 0.6], [-0.42, 1], [0.42, 1], [0.44, 0.6],
         [0.5, 0.12], [0.42, 0]]
    )  # fmt: skip
    skirt = rng.random() < 0.2
    torso = torso_box * (girth, trunk * (1.35 if skirt else 1.06)) - (0.0, trunk)
    if skirt:
        torso[3:5, 0] *= rng.uniform(1.1, 1.8)
    rect = _bounds(torso, 0.01)
    cloth = _cloth(rng, noises, _px(rect[3] - rect[1]), _px(3.14 * girth), palette)
    if rng.random() < 0.35:  # an open jacket shows the front; a bag hangs at the back
        cloth.box(cloth.width * 0.45, 0, cloth.width * 0.56, cloth.height, palette[3], 4)
    if rng.random() < 0.25:
        bag = palette[int(rng.integers(10))] * 0.7
        low = cloth.height * 0.75
        cloth.box(0, 0, cloth.width * 0.17, low, bag, 7)
        cloth.box(cloth.width * 0.83, 0, cloth.width, low, bag, 7)
    depth = rng.uniform(0.55, 0.8)
    body = _round(_folded(cloth.render(), rng), torso, rect, depth)

    head_w = head_h * rng.uniform(0.68, 0.8)
    oval = rounded_box(head_w, head_h, 0.9) - (0.0, head_h * 0.48)
    head_rect = _bounds(oval, 0.008)
    surface = _head_surface(rng, noises, _px(head_rect[3] - head_rect[1]), _px(3.14 * head_w))
    head = replace(
        _round(surface, oval, head_rect, 1.05), parent=4, joint=(0.0, -trunk * 0.98),
        rest=rng.normal(0, 0.08), swing=0.04, lag=rng.uniform(0, 6),
    )  # fmt: skip

    sleeve = palette[4] if rng.random() < 0.3 else cloth.render().mean((0, 1))
    bare = rng.random() < 0.35
    trousers = skin if rng.random() < 0.2 else palette[int(rng.integers(10))]
    shoe = palette[int(rng.integers(10))] * rng.uniform(0.3, 1.0)
    thick = 0.085 * stout
    hip = girth * (0.08 if side_on else 0.24)
    shoulder = girth * (0.1 if side_on else 0.5)
    pose = rng.normal(0, 0.1)

    def leg_parts(sign: int, first: int) -> list[Part]:
        lag = 0.0 if sign > 0 else _PI
        upper = _limb(rng, noises, leg * 0.52, (thick * 1.2, thick), trousers)
        lower = _limb(rng, noises, leg * 0.52, (thick, thick * 0.7),
                      skin if bare else trousers, shoe)  # fmt: skip
        return [
            replace(upper, parent=4, joint=(sign * hip, 0.0), swing=stride, lag=lag, rest=pose),
            replace(lower, parent=first, joint=(0.0, leg * 0.5), swing=stride * 0.7, lag=lag - 1.2,
                    rest=stride * 0.5 * (1 if side_on else 0.2)),
        ]  # fmt: skip

    def arm_parts(sign: int, first: int) -> list[Part]:
        lag = _PI if sign > 0 else 0.0
        lift = rng.normal(0.0, 0.35) + (rng.uniform(-2.6, -0.6) if rng.random() < 0.12 else 0.0)
        upper = _limb(rng, noises, trunk * 0.52, (thick * 0.9, thick * 0.75), sleeve)
        lower = _limb(rng, noises, trunk * 0.55, (thick * 0.7, thick * 0.55),
                      skin if bare else sleeve, skin)  # fmt: skip
        return [
            replace(upper, parent=4, joint=(sign * shoulder, -trunk * 0.9), swing=stride * 0.8,
                    lag=lag, rest=lift - 0.1 * sign * (not side_on)),
            replace(lower, parent=first, joint=(0.0, trunk * 0.5), swing=stride * 0.4, lag=lag,
                    rest=-rng.uniform(0, 0.7) - (rng.random() < 0.15)),
        ]  # fmt: skip

    parts = [*leg_parts(-1, 0), *leg_parts(1, 2), body, head]
    parts = [*parts, *arm_parts(1, 6), *arm_parts(-1, 8)]
    if side_on:  # the far arm goes behind the body: it is drawn first
        parts = _reordered(parts, [8, 9, 0, 1, 2, 3, 4, 5, 6, 7])
    if rng.random() < 0.12:  # only the upper half is the target
        legs = [i for i, part in enumerate(parts) if part.parent >= 0 and abs(part.joint[1]) < 1e-6]
        lower = [i for i, part in enumerate(parts) if part.parent in legs]
        parts = [replace(part, counted=i not in (*legs, *lower)) for i, part in enumerate(parts)]
    return _sprite("person", parts, turns=9.0)


def _reordered(parts: list[Part], order: list[int]) -> list[Part]:
    """Return the parts in another drawing order with their parents renumbered."""
    place = {old: new for new, old in enumerate(order)}
    moved = [parts[i] for i in order]
    return [replace(p, parent=place[p.parent] if p.parent >= 0 else -1) for p in moved]


def _face(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A head; the shoulders below it are drawn but are not the target."""
    width, height = rng.uniform(0.66, 0.86), 1.0
    oval = rounded_box(width, height, rng.uniform(0.72, 1.0))
    oval[:, 0] *= 1 - 0.12 * np.clip(oval[:, 1], 0, 1)  # the chin is narrower
    rect = _bounds(oval, 0.01)
    surface = _head_surface(rng, noises, _px(rect[3] - rect[1]), _px(3.14 * width))
    head = replace(
        _round(_folded(surface, rng, 0.05), oval, rect, rng.uniform(1.0, 1.2)),
        parent=0, joint=(0.0, -0.62), swing=rng.uniform(0, 0.15),
    )  # fmt: skip
    shoulders = np.array(
        [[-0.22, -0.4], [0.22, -0.4], [0.25, -0.1], [0.8, 0.06], [1.0, 0.35], [1.05, 1.5],
         [-1.05, 1.5], [-1.0, 0.35], [-0.8, 0.06], [-0.25, -0.1]]
    ) * (rng.uniform(0.8, 1.1), 1.0)  # fmt: skip
    rect = _bounds(shoulders, 0.01)
    cloth = _cloth(
        rng, noises, _px(rect[3] - rect[1]) // 2, _px(rect[2] - rect[0]) // 2,
        draw_palette(rng, 8, vivid=0.2),
    )  # fmt: skip
    cloth.box(cloth.width * 0.37, 0, cloth.width * 0.63, cloth.height * 0.17, _skin(rng) * 0.85)
    body = replace(_flat(_folded(cloth.render(), rng), shoulders, rect), counted=False)
    return _sprite("face", [body, head], turns=rng.uniform(0.5, 1.5), stands=False)


def _vehicle(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A car, van or bus that shows its side and its front or back."""
    van = rng.random() < 0.4
    long = rng.uniform(1.6, 2.9)
    short = rng.uniform(0.9, 1.25)
    palette = draw_palette(rng, 6, vivid=0.35)
    paint, trim = palette[0], palette[1]
    glass = colour(rng.uniform(25, 90), 8, 215)
    tyre = np.array([28.0, 28, 30])
    body_top = 0.05 if van else rng.uniform(0.38, 0.46)
    height = _px(1.0)
    hood, boot = rng.uniform(0.15, 0.32), rng.uniform(0.05, 0.22)
    grain = rng.uniform(2, 6)
    faces = []
    for side in range(4):
        width = _px(long if side % 2 == 0 else short)
        p = Painter(rng, height, width, noises, np.full(3, -500.0), 0)
        lit = paint * rng.uniform(0.9, 1.05)
        p.box(0, body_top * height, width, 0.88 * height, lit, grain, 0.15)
        if side % 2 == 0:
            x0, x1 = (hood, 1 - boot) if side == 0 else (boot, 1 - hood)
            if van:
                x0, x1 = 0.02, 0.98
            roof = np.array([[x0, body_top], [x0 + 0.1, 0], [x1 - 0.08, 0], [x1, body_top]])
            p.polygon(roof * (width, height), lit * 0.95, grain)
            top, low = (0.15, 0.42) if van else (0.07, body_top)
            for i in range(int(rng.integers(2, 5)) + 2 * van):
                count = 4 + 2 * van
                a = x0 + 0.09 + i * (x1 - x0 - 0.16) / count
                b = a + (x1 - x0) / count * 0.7
                p.box(a * width, top * height, b * width, low * height, glass, 5, 0.4)
            p.line(0, 0.6 * height, width, 0.6 * height, lit * 0.7, 2)
            for x in (0.2, 0.8):
                p.ellipse(x * width, 0.84 * height, 0.16 * height, 0.16 * height, tyre)
                p.ellipse(x * width, 0.84 * height, 0.08 * height, 0.08 * height, trim)
        else:
            roof = np.array([[0.06, body_top], [0.16, 0], [0.84, 0], [0.94, body_top]])
            p.polygon(roof * (width, height), lit * 0.9, grain)
            p.box(0.16 * width, 0.07 * height, 0.84 * width, 0.4 * height, glass, 5, 0.4)
            lamp = np.array([235.0, 230, 205]) if side == 1 else np.array([170.0, 30, 25])
            for x in (0.03, 0.77):
                p.box(x * width, 0.52 * height, (x + 0.2) * width, 0.64 * height, lamp, 4)
                p.box(x * width, 0.86 * height, (x + 0.2) * width, height, tyre)
            p.box(0.35 * width, 0.68 * height, 0.65 * width, 0.78 * height, trim, 4)
        if rng.random() < 0.25:
            _writing(p, rng, width / 2, height * 0.62, 0.12 * height, trim)
        mask = np.where(p.labels > 0, np.uint8(255), np.uint8(0))
        faces.append(premultiplied(p.render(), cv2.GaussianBlur(mask, (3, 3), 0)))
    surface = np.hstack(faces)
    part = Part(
        "box", mips(surface), (), (-long / 2, -0.5, long / 2, 0.5), _columns(faces),
        sides=(long, short),
    )  # fmt: skip
    return _sprite("vehicle", [part], turns=9.0)


def _columns(faces: list[np.ndarray], samples: int = 48) -> np.ndarray:
    """Return top and bottom of what each column of each face shows, units, (4 × samples, 2)."""
    spans = []
    for face in faces:
        height, width = face.shape[:2]
        for i in range(samples):
            left = i * width // samples
            columns = face[:, left : max(left + 1, (i + 1) * width // samples), 3]
            rows = np.flatnonzero(columns.max(axis=1) > 127)
            top, low = (rows[0], rows[-1] + 1) if len(rows) else (height, 0)
            spans.append((top / height - 0.5, low / height - 0.5))
    return np.array(spans)


def _animal(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A four-legged animal seen from the side."""
    coat = draw_palette(rng, 5, hue_deg=rng.normal(34, 8), vivid=0)
    tall = rng.uniform(0.25, 0.55)  # length of the legs
    length, girth = rng.uniform(0.8, 1.3), rng.uniform(0.3, 0.45)
    outline = polygon_blob(rng, 28, 0.08) * (length / 2, girth / 2)
    rect = _bounds(outline)
    fur = _cloth(rng, noises, _px(rect[3] - rect[1]), _px(rect[2] - rect[0]), coat)
    lit = np.linspace(1.15, 0.7, fur.height, dtype=np.float32)[:, None, None]
    body = replace(_flat(_folded(fur.render(), rng) * lit, outline, rect), depth=0.45)
    stride = rng.uniform(0.3, 0.8)

    def limb(x: float, lag: float, scale: float = 1.0) -> Part:
        part = _limb(
            rng, noises, tall, (0.14 * scale, 0.07), coat[0] * rng.uniform(0.7, 1.0), coat[1] * 0.6
        )
        return replace(part, parent=2, joint=(x, girth * 0.25), swing=stride, lag=lag)

    far = [limb(-length * 0.36, 0.3), limb(length * 0.36, 3.4)]
    near = [limb(-length * 0.4, 3.14), limb(length * 0.4, 0.0)]
    oval = polygon_blob(rng, 20, 0.12) * (rng.uniform(0.16, 0.28), rng.uniform(0.12, 0.18))
    oval += np.array([0.1, -0.05])
    rect = _bounds(oval)
    p = Painter(rng, _px(rect[3] - rect[1]), _px(rect[2] - rect[0]), noises, coat[0], 8)
    p.ellipse(p.width * 0.9, p.height * 0.6, p.width * 0.12, p.height * 0.2, coat[0] * 0.4)
    p.ellipse(p.width * 0.62, p.height * 0.35, 2, 2, np.array([15.0, 12, 10]))
    p.ellipse(p.width * 0.25, p.height * 0.2, p.width * 0.12, p.height * 0.25, coat[2] * 0.6)
    head = replace(
        _flat(p.render(), oval, rect), parent=2, joint=(length * 0.4, -girth * rng.uniform(0, 0.4)),
        swing=0.15, rest=rng.normal(0, 0.25),
    )  # fmt: skip
    tail = replace(
        _limb(rng, noises, rng.uniform(0.2, 0.5), (0.07, 0.03), coat[0]), parent=2,
        joint=(-length * 0.46, -girth * 0.2), rest=rng.uniform(0.3, 2.2), swing=0.4,
    )  # fmt: skip
    return _sprite("animal", [*far, body, tail, *near, head], turns=0.9)


def _flyer(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A bird, fish or aircraft: a body with wings or fins."""
    palette = draw_palette(rng, 6, vivid=0.2)
    length, girth = 1.0, rng.uniform(0.16, 0.34)
    outline = rounded_box(length, girth, 0.95)
    outline[:, 1] *= 1 - 0.6 * np.clip(-outline[:, 0] / length * 2, 0, 1)
    rect = _bounds(outline)
    p = _cloth(rng, noises, _px(rect[3] - rect[1]), _px(rect[2] - rect[0]), palette)
    body = replace(_flat(p.render(), outline, rect), depth=rng.uniform(0.4, 0.8))
    flap = rng.uniform(0.1, 0.9)
    wings = []
    for sign in (1, -1):
        span, chord = rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.25)
        wing = np.array([[-chord, 0], [chord, 0], [chord * 0.1, span], [-chord * 0.7, span * 0.95]])
        rect = _bounds(wing)
        w = Painter(rng, _px(rect[3] - rect[1]), _px(rect[2] - rect[0]), noises, palette[1], 8)
        w.box(0, w.height * 0.7, w.width, w.height, palette[2], 5)
        wings.append(
            replace(_flat(w.render(), wing, rect), parent=1, joint=(0.08, 0.0), swing=flap * sign,
                    rest=(0.0 if sign > 0 else _PI) + rng.normal(0, 0.3))
        )  # fmt: skip
    return _sprite("flyer", [wings[0], body, wings[1]], turns=0.9, spins=True, stands=False)


def _object(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A bottle, can, ball, carton, book or sign."""
    palette = draw_palette(rng, 8, vivid=0.5)
    kind = rng.random()
    if kind < 0.4:  # bodies of revolution
        width = rng.uniform(0.3, 0.95)
        if rng.random() < 0.4:
            outline = rounded_box(0.95, 0.95, 1.0)
        else:
            neck = rng.uniform(0.4, 1.0)
            half = np.array(
                [[neck, -0.5], [neck, -0.32], [1, -0.18], [1, 0.46], [0.9, 0.5]]
            ) * (width / 2, 1)  # fmt: skip
            outline = np.vstack([half, half[::-1] * (-1, 1)])
        rect = _bounds(outline, 0.01)
        p = _cloth(rng, noises, _px(rect[3] - rect[1]), _px(3.14 * (rect[2] - rect[0])), palette)
        label = palette[5]
        x, y = rng.uniform(0.2, 0.5) * p.width, rng.uniform(0.3, 0.5) * p.height
        p.box(x, y, x + 0.3 * p.width, y + 0.35 * p.height, label, 5)
        _writing(p, rng, x + 0.15 * p.width, y + 0.05 * p.height, 0.09 * p.width, palette[6])
        body = _round(_folded(p.render(), rng, 0.05), outline, rect, 1.0)
        parts = _held(rng, noises, [body])
        return _sprite("object", parts, turns=9.0, spins=rng.random() < 0.4)
    if kind < 0.65:  # cartons
        long, short = rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.8)
        faces = []
        for side in range(4):
            p = _cloth(rng, noises, _px(1.0), _px(long if side % 2 == 0 else short), palette[:5])
            _writing(p, rng, p.width / 2, p.height * 0.3, p.width * 0.2, palette[6])
            faces.append(premultiplied(p.render(), np.full(p.labels.shape, 255, np.uint8)))
        part = Part(
            "box", mips(np.hstack(faces)), (), (-long / 2, -0.5, long / 2, 0.5), _columns(faces),
            sides=(long, short),
        )  # fmt: skip
        parts = _held(rng, noises, [part])
        return _sprite("object", parts, turns=9.0, spins=rng.random() < 0.4)
    outline = rounded_box(rng.uniform(0.5, 1.6), 1.0, rng.choice([0.0, 0.3, 1.0]))
    if rng.random() < 0.3:
        corners = int(rng.integers(3, 9))
        outline = polygon_blob(rng, corners, 0.15) * 0.5
    rect = _bounds(outline, 0.01)
    p = _cloth(rng, noises, _px(rect[3] - rect[1]), _px(rect[2] - rect[0]), palette)
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, p.width), rng.uniform(0, p.height)
        r = rng.uniform(0.05, 0.3) * p.height
        p.ellipse(x, y, r, r * rng.uniform(0.5, 1), palette[int(rng.integers(8))])
    _writing(p, rng, p.width / 2, p.height * 0.4, p.width * 0.2, palette[6])
    part = replace(_flat(_folded(p.render(), rng, 0.05), outline, rect), depth=0.15)
    parts = _held(rng, noises, [part])
    return _sprite("object", parts, turns=1.0, spins=rng.random() < 0.6, stands=False)


def _blob(rng: np.random.Generator, noises: Noises) -> Sprite:
    """A shapeless thing whose outline keeps changing, such as a gymnast, a doll or a squid."""
    palette = draw_palette(rng, 7, vivid=0.2)
    outline = polygon_blob(rng, 36, rng.uniform(0.1, 0.35), 1.2)
    outline = outline * (rng.uniform(0.25, 0.6), 0.45)
    wobble = np.stack(
        [rng.uniform(0, 0.16, 5) / np.arange(1, 6) ** 0.5, rng.uniform(0, 6.28, 5)], axis=1
    )
    rect = _bounds(outline * 1.3)
    p = Painter(rng, _px(rect[3] - rect[1]), _px(3.14 * (rect[2] - rect[0])), noises, palette[0])
    p.leaves(palette, int(rng.integers(5, 70)), (4, 45), elongation=3, grain=9, squareness=0.25)
    part = replace(
        _round(_folded(p.render(), rng), outline, rect, rng.uniform(0.6, 1)),
        outline=outline,
        wobble=wobble,
    )
    return _sprite("blob", [part], turns=9.0, spins=rng.random() < 0.5, stands=False)


FAMILIES: dict[str, tuple[Callable[[np.random.Generator, Noises], Sprite], float]] = {
    "person": (_person, 0.33),
    "face": (_face, 0.16),
    "vehicle": (_vehicle, 0.13),
    "animal": (_animal, 0.1),
    "flyer": (_flyer, 0.05),
    "object": (_object, 0.14),
    "blob": (_blob, 0.09),
}
"""Builder and frequency of each family."""
