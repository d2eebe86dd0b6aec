"""Background plates: still pictures that a scene's camera moves over."""

from collections.abc import Callable

import cv2
import numpy as np

from .palettes import SKIN, colour, draw_palette
from .textures import NOISE_SIZE, Painter

PLATE_SIZE = 512
"""Side of a plate, px."""


def draw_plate(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Draw one background, uint8 RGB ``(512, 512, 3)``.

    Args:
        rng: Source of chance.
        noises: Noise tiles to take grain from.
    """
    painters: list[tuple[Callable[..., np.ndarray], float]] = [
        (_leaves, 0.18),
        (_landscape, 0.2),
        (_street, 0.18),
        (_interior, 0.16),
        (_field, 0.14),
        (_smooth, 0.14),
    ]
    weights = [w for _, w in painters]
    paint = painters[int(rng.choice(len(painters), p=weights))][0]
    picture = paint(rng, noises)
    # Light falls unevenly over a scene.
    light = cv2.resize(
        rng.normal(1.0, rng.uniform(0.02, 0.16), (4, 4)).astype(np.float32),
        (PLATE_SIZE, PLATE_SIZE),
        interpolation=cv2.INTER_CUBIC,
    )
    picture *= light[..., None]
    if rng.random() < 0.75:  # the 1/f detail that shapes alone lack
        picture += rng.uniform(3, 14) * _noise(rng, noises, rng.choice([1, 1, 2, 4]))[..., None]
    # Lens: always a little soft, now and then out of focus behind the target.
    sigma = rng.uniform(0.4, 0.9) if rng.random() < 0.75 else np.exp(rng.uniform(0, np.log(7)))
    picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    return np.asarray(np.clip(picture, 0, 255), dtype=np.uint8)


def _noise(rng: np.random.Generator, noises: list[np.ndarray], zoom: int) -> np.ndarray:
    """Return noise of a plate's size, ``zoom`` times coarser than the tile."""
    tile = np.roll(
        noises[int(rng.integers(len(noises)))], tuple(rng.integers(NOISE_SIZE, size=2)), (0, 1)
    )
    if zoom == 1:
        return np.tile(tile, (2, 2))
    side = PLATE_SIZE // zoom
    part = tile[:side, :side]
    return np.asarray(cv2.resize(part, (PLATE_SIZE, PLATE_SIZE), interpolation=cv2.INTER_CUBIC))


def _painter(
    rng: np.random.Generator, noises: list[np.ndarray], ground: np.ndarray, grain: float
) -> Painter:
    return Painter(rng, PLATE_SIZE, PLATE_SIZE, noises, ground, grain)


def _leaves(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Objects of all sizes at all depths."""
    palette = draw_palette(rng, 14)
    p = _painter(rng, noises, palette[0], 10)
    smallest = np.exp(rng.uniform(np.log(3), np.log(16)))
    p.leaves(
        palette,
        int(np.clip(22000 / smallest**1.6, 250, 1400)),
        (smallest, rng.uniform(60, 190)),
        elongation=rng.uniform(1.2, 6),
        grain=rng.uniform(3, 14),
        squareness=rng.uniform(0, 0.9),
    )
    return p.render()


def _sky(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Return a bright plate that pales towards the bottom, float32."""
    top = colour(rng.uniform(110, 225), rng.gamma(1.5, 18), rng.normal(225, 15))
    low = colour(rng.uniform(165, 250), rng.gamma(1.5, 8), rng.choice([30, 220]))
    ramp = np.linspace(0, 1, PLATE_SIZE, dtype=np.float32)[:, None, None]
    clouds = rng.uniform(0, 16) * _noise(rng, noises, 4)[..., None]
    return np.asarray(top * (1 - ramp) + low * ramp + clouds, dtype=np.float32)


def _landscape(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Sky, a far band of trees or hills, and ground whose grain grows towards the viewer."""
    n = PLATE_SIZE
    horizon = rng.uniform(0.05, 0.6) * n
    greens = draw_palette(rng, 8, hue_deg=rng.choice([95.0, 60.0, 35.0, 220.0]), vivid=0)
    greens *= np.float32(rng.uniform(0.45, 0.95))
    ground = draw_palette(rng, 8, hue_deg=rng.choice([38.0, 85.0, 95.0, 220.0]), vivid=0.05)
    ground = ground[0] + (ground - ground[0]) * np.float32(rng.uniform(0.15, 0.7))
    p = _painter(rng, noises, np.full(3, -1000.0), 0)  # stands for sky
    edge = horizon + np.cumsum(rng.normal(0, 3, 33))
    xs = np.linspace(-2, n + 2, 33)
    p.polygon(
        np.vstack([np.stack([xs, edge], 1), [[n, n + 9], [-2, n + 9]]]),
        ground[0],
        rng.uniform(4, 16),
    )
    for depth in np.sort(rng.uniform(0, 1, int(rng.integers(20, 160)))):  # near ones are larger
        y = horizon + 6 + (n - horizon) * depth**1.5
        r = 3 + 60 * depth**1.5 * rng.uniform(0.3, 1)
        shade = ground[int(rng.integers(8))] + rng.normal(0, 6)
        p.ellipse(rng.uniform(0, n), y, r * 2.2, r * 0.5, shade, rng.normal(0, 4), 9.0)
    for _ in range(int(rng.integers(0, 9))):  # trees: trunk and foliage of many small leaves
        x, r = rng.uniform(0, n), np.exp(rng.uniform(np.log(14), np.log(95)))
        foot = edge[int(np.clip(x / n * 32, 0, 32))] + r * 0.2
        p.box(x - r * 0.07, foot - r, x + r * 0.07, foot, greens[0] * 0.5, 8)
        crown = (x - 0.7 * r, foot - 2.2 * r, x + 0.7 * r, foot - 0.8 * r)
        p.leaves(greens, int(rng.integers(50, 130)), (2.5, 0.35 * r + 4), crown, 2.0, 10, 0.0)
    if rng.random() < 0.5:
        _clutter(p, rng, horizon + 10, n, draw_palette(rng, 10))
    picture = p.render()
    sky = _sky(rng, noises)
    return np.where(p.labels[..., None] == 0, sky, picture)


def _street(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Facades with windows, a pavement with markings, poles and parked things."""
    n = PLATE_SIZE
    palette = draw_palette(rng, 12, vivid=0.3)
    p = _painter(rng, noises, palette[0], 5)
    foot = rng.uniform(0.35, 0.8) * n
    x = -rng.uniform(0, 80)
    while x < n:
        width = rng.uniform(50, 260)
        top = rng.uniform(-0.3, 0.5) * foot
        wall = palette[int(rng.integers(12))]
        p.box(x, top, x + width, foot, wall, rng.uniform(2, 9), rng.normal(0, 0.08))
        dx, dy = rng.uniform(12, 50), rng.uniform(16, 60)
        w, h = dx * rng.uniform(0.35, 0.8), dy * rng.uniform(0.35, 0.85)
        glass = palette[int(rng.integers(12))] * rng.uniform(0.3, 0.9)
        if rng.random() < 0.5:
            for wx in np.arange(x + dx / 4, x + width - w, dx):
                for wy in np.arange(top + dy / 3, foot - h, dy):
                    p.box(wx - 1, wy - 1, wx + w + 1, wy + h + 1, wall * 0.8, 2)
                    p.box(wx, wy, wx + w, wy + h, glass + rng.normal(0, 14), 7, rng.normal(0, 0.5))
        x += width
    level = rng.uniform(60, 170)
    p.box(0, foot, n, n, colour(level, rng.gamma(2, 4), 40), rng.uniform(2, 10), 0.06)
    for _ in range(int(rng.integers(0, 7))):  # kerbs, markings
        y, slope = rng.uniform(foot, n), rng.normal(0, 0.12)
        mark = colour(rng.choice([level * 0.7, level * 1.2, 225]), 8, 50)
        p.line(0, y, n, y + slope * n, mark, int(rng.integers(1, 9)))
    _clutter(p, rng, foot, n, palette)
    for _ in range(int(rng.integers(0, 6))):  # poles, signs
        x, w = rng.uniform(0, n), rng.uniform(2, 12)
        p.box(x, rng.uniform(-50, foot * 0.6), x + w, rng.uniform(foot, n), palette[1] * 0.6, 4)
        if rng.random() < 0.5:
            y = rng.uniform(0, foot * 0.7)
            p.box(x - 12, y, x + w + 12, y + 24, draw_palette(rng, 1, vivid=0.8)[0], 3)
    return p.render()


def _interior(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """A wall, a floor, furniture, shelves and pictures."""
    n = PLATE_SIZE
    palette = draw_palette(rng, 12, hue_deg=rng.normal(36, 20), vivid=0.4)
    p = _painter(rng, noises, palette[0], rng.uniform(1, 6))
    floor = rng.uniform(0.55, 1.1) * n
    p.box(0, floor, n, n, palette[1], 7, 0.1)
    for _ in range(int(rng.integers(5, 26))):
        w, h = np.exp(rng.uniform(np.log(16), np.log(220), 2))
        x, y = rng.uniform(-20, n), rng.uniform(-20, n)
        body = palette[int(rng.integers(12))]
        p.box(x, y, x + w, y + h, body, rng.exponential(5), rng.normal(0, 0.3))
        style = rng.random()
        if style < 0.25:  # a frame
            b = rng.uniform(2, 9)
            p.box(x + b, y + b, x + w - b, y + h - b, palette[int(rng.integers(12))], 10, 0.3)
        elif style < 0.5:  # shelves full of things
            for sx in np.arange(x, x + w, rng.uniform(5, 22)):
                top = y + h * rng.uniform(0.05, 0.5)
                p.box(sx, top, sx + rng.uniform(4, 16), y + h, palette[int(rng.integers(12))], 4)
        elif style < 0.65:  # a striped cloth or blind
            for sy in np.arange(y, y + h, rng.uniform(4, 14)):
                p.box(x, sy, x + w, sy + rng.uniform(1, 5), body * 0.75, 3)
    if rng.random() < 0.4:
        area = (0.0, rng.uniform(0, 0.7) * n, float(n), float(n))
        p.leaves(palette, int(rng.integers(20, 150)), (4, 50), area, 3.0, 6, 0.6)
    return p.render()


def _field(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """A sports ground, court, stage or road with lines, and a band of spectators."""
    n = PLATE_SIZE
    turf = colour(rng.uniform(50, 190), rng.gamma(2, 14), rng.choice([100, 85, 25, 215, 45]))
    p = _painter(rng, noises, turf, rng.uniform(1.5, 9))
    crowd = rng.uniform(-0.2, 0.5) * n
    if rng.random() < 0.5:  # mown stripes
        x, slope, w = -200.0, rng.normal(0, 120), rng.uniform(25, 90)
        while x < n + 200:
            stripe = [[x, 0], [x + w, 0], [x + w + slope, n], [x + slope, n]]
            p.polygon(np.array(stripe), turf * rng.uniform(0.88, 1.0), 5)
            x += 2 * w
    for _ in range(int(rng.integers(0, 8))):
        x1, y1, x2, y2 = rng.uniform(-100, n + 100, 4)
        mark = colour(rng.uniform(190, 245), 6, 60)
        p.line(x1, y1, x2, y1 + 0.3 * (y2 - y1), mark, int(rng.integers(1, 6)))
    if crowd > 0:
        palette = draw_palette(rng, 20, vivid=0.7)
        p.box(0, 0, n, crowd, palette[0] * 0.5, 12)
        people = int(rng.integers(50, 600))
        xs, ys = rng.uniform(0, n, people), np.sort(rng.uniform(0, crowd, people))
        r = rng.uniform(3, 9)
        for x, y in zip(xs, ys, strict=True):
            p.ellipse(x, y + 2 * r, r * 1.1, r * 1.6, palette[int(rng.integers(20))], 0, 9)
            p.ellipse(x, y, r * 0.6, r * 0.8, np.array(SKIN[int(rng.integers(5))]), 0, 6)
        board = palette[int(rng.integers(20))]
        p.box(0, crowd, n, crowd + rng.uniform(4, 40), board, 3)
    _clutter(p, rng, max(crowd, 0.0), n, draw_palette(rng, 8, vivid=0.5))
    return p.render()


def _smooth(rng: np.random.Generator, noises: list[np.ndarray]) -> np.ndarray:
    """Water, sky, snow, asphalt or darkness: little but 1/f texture."""
    if rng.random() < 0.35:
        picture = _sky(rng, noises)
    else:
        palette = draw_palette(rng, 3)
        coarse, fine = _noise(rng, noises, 4)[..., None], _noise(rng, noises, 1)[..., None]
        wave = np.clip(0.5 + 0.3 * coarse, 0, 1)
        picture = palette[0] * (1 - wave) + palette[1] * wave + rng.uniform(1, 14) * fine
    if rng.random() < 0.5:
        p = _painter(rng, noises, np.zeros(3), 0)
        _clutter(p, rng, 0, PLATE_SIZE, draw_palette(rng, 8))
        picture = np.where(p.labels[..., None] > 0, p.render(), picture)
    return np.asarray(picture, dtype=np.float32)


def _clutter(
    p: Painter, rng: np.random.Generator, top: float, bottom: float, palette: np.ndarray
) -> None:
    """Stand things on the ground: boxes, bushes, people-like uprights."""
    for y in np.sort(rng.uniform(top, bottom, int(rng.poisson(5)))):
        x = rng.uniform(0, p.width)
        size = np.exp(rng.uniform(np.log(8), np.log(70)))
        body = palette[int(rng.integers(len(palette)))]
        kind = rng.random()
        p.ellipse(x, y, size * 0.5, size * 0.1, body * 0.35, 0, 2)  # its shadow
        if kind < 0.4:
            w = size * rng.uniform(0.4, 1.8)
            p.box(x - w / 2, y - size, x + w / 2, y, body, 8, rng.normal(0, 0.4))
            inner = palette[int(rng.integers(len(palette)))]
            p.box(x - w * 0.3, y - size * 0.8, x + w * 0.3, y - size * 0.4, inner, 6)
        elif kind < 0.7:
            skin = np.array(SKIN[int(rng.integers(5))], np.float32)
            lower = palette[int(rng.integers(len(palette)))]
            p.box(x - size * 0.1, y - size * 0.5, x + size * 0.1, y, lower, 6)
            p.ellipse(x, y - size * 0.65, size * 0.16, size * 0.24, body, 0, 8)
            p.ellipse(x, y - size * 0.93, size * 0.07, size * 0.1, skin, 0, 4)
        else:
            area = (x - size * 0.6, y - size, x + size * 0.6, y)
            p.leaves(palette[:4] * 0.8, 40, (2.0, size * 0.25 + 3), area, 2.5, 9, 0.1)
