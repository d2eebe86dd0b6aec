"""Everything a scene's seed settles, and where everything is at one instant; no pixels yet.

Coordinates: the *world* is the frame as an unmoved camera sees it; :attr:`Instant.camera` maps it to
frame px. All motion is a closed-form function of the time, so instants may be asked for in any order,
by any process.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from .bank import Bank
from .elements import Actor, Instant, Slab, draw_slab
from .motion import Wander, fold, smooth_step
from .optics import Lens, Light
from .palettes import ColourMap, capped_saturation, exposed, recolouring, turned
from .sprites import Sprite
from .style import Style

FRAME_SIZES = ((320, 240), (352, 288), (480, 270), (480, 360), (640, 360), (640, 480), (854, 480),
               (1280, 720))  # fmt: skip
_UNCOLOURED = ColourMap(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))


class Screenplay:
    """A scene drawn from a seed.

    Args:
        bank: Pictures to use.
        seed: The scene's number within the bank's seed and split.
        length: Frames of the video; times run from 0 to ``length - 1``.
        style: What may happen.
        turn: The bank's turn.
        family: Family of the target; any by default.
        not_sprite: A sprite number that the target must not have.

    Attributes:
        size: The target's size at rest (root of its box's area), px.
        frame_wh: Frame size, px.
        actors: The target and those around it.
        slabs: Scenery before and behind the target.
        plate: Mip levels of the background.
        plate_colours: How the background's colours are changed.
        plate_to_world: Map from the background's texels to the world, 3 × 3.
        lookalikes: Number of distractors that look like the target.
        contrast: Difference of the mean colours of target and background, grey levels.
    """

    def __init__(
        self,
        bank: Bank,
        seed: int,
        length: int,
        style: Style,
        turn: int = 0,
        family: str | None = None,
        not_sprite: int = -1,
    ) -> None:
        self.bank, self.seed, self.length, self.style, self.turn = bank, seed, length, style, turn
        self._wander = Wander()
        rng = bank.rng(4, seed)
        numbers = [i for i in sprite_numbers(bank.sprites, family) if i != not_sprite]
        if not numbers:
            raise ValueError(f"sprites: {bank.sprites} hold no other target of family {family!r}")
        self.sprite_number = numbers[int(rng.integers(len(numbers)))]
        self._choose_frame(rng)
        self._choose_background(rng)
        self._move_camera(rng)
        self._light_up(rng)
        target = self._choose_target(rng, bank.sprite(self.sprite_number, turn))
        self.actors: list[Actor] = [target]
        self.slabs: list[Slab] = []
        behind = self._background_colour(target.anchor)
        own = target.colours(target.sprite.mean_colour)
        self.contrast = float(np.abs(own - behind).mean())
        self.lookalikes = self._add_lookalikes(rng)
        self._add_passers_by(rng)
        self._add_scenery(rng)
        if rng.random() < style.occluder:
            for t in rng.uniform(0, length, max(1, int(rng.poisson(length / 80)))):
                self._occlude(rng, float(t))
        self._instants: dict[float, Instant] = {}

    @property
    def target(self) -> Actor:
        """The target."""
        return self.actors[0]

    @property
    def deforms(self) -> bool:
        """Whether the target's limbs swing or its outline changes."""
        target = self.target
        swing = max(abs(part.swing) for part in target.sprite.parts) * target.swing
        wobbles = any(len(part.wobble) for part in target.sprite.parts)
        return bool(target.gait[1] > 0 and (wobbles or swing > 0.15))

    def angle(self, t: float) -> float:
        """Return the target's in-plane angle against its rest, rad."""
        return float(self._wander.at(t)[self.target.channels][3]) + self.target.spin * t

    def instant(self, t: float) -> Instant:
        """Return what holds at time ``t``."""
        if t not in self._instants:
            if len(self._instants) >= 4:
                self._instants.pop(next(iter(self._instants)))
            self._instants[t] = self._settle(t)
        return self._instants[t]

    # --- what the seed settles --------------------------------------------------------------------

    def _choose_frame(self, rng: np.random.Generator) -> None:
        style = self.style
        low, high = np.log(style.target_px)
        size = float(np.exp(rng.uniform(low, high)))
        if style.frame_wh is not None:
            self.frame_wh = style.frame_wh
            size = min(size, 0.45 * min(self.frame_wh))
        else:
            fitting = [wh for wh in FRAME_SIZES if 0.03 * wh[0] <= size <= 0.36 * wh[1]]
            fitting = fitting or [FRAME_SIZES[0] if size < 100 else FRAME_SIZES[-1]]
            self.frame_wh = fitting[int(rng.integers(len(fitting)))]
        self.size = size

    def _choose_background(self, rng: np.random.Generator) -> None:
        width, height = self.frame_wh
        self.plate = self.bank.plate(int(rng.integers(self.bank.plates)), self.turn)
        sample = self._plate_sample().reshape(-1, 3).astype(np.float32)
        mean = sample.mean(axis=0)
        hue = rng.normal(0, 14) if rng.random() < 0.9 else rng.uniform(0, 360)
        chroma = float(np.sqrt(((sample - sample.mean(axis=1, keepdims=True)) ** 2).sum(1).mean()))
        saturation = capped_saturation(rng, chroma, np.exp(rng.normal(-0.1, 0.35)))
        level = exposed(turned(mean, hue, saturation) + np.float32(rng.normal(0, 16)))
        contrast = np.exp(self.style.strength * rng.normal(0.25, 0.3))
        self.plate_colours = recolouring(mean, level, hue, saturation, contrast)
        texel = width / self.plate[0].shape[1] * rng.uniform(0.8, 1.5)
        angle, mirror = rng.normal(0, 0.05), 1.0 if rng.random() < 0.5 else -1.0
        c, s = texel * np.cos(angle), texel * np.sin(angle)
        half = self.plate[0].shape[0] / 2
        turn = np.array([[c * mirror, -s, width / 2], [s * mirror, c, height / 2], [0, 0, 1.0]])
        self.plate_to_world = turn @ np.array([[1, 0, -half], [0, 1, -half], [0, 0, 1.0]])

    def _move_camera(self, rng: np.random.Generator) -> None:
        moving = self.style.camera and rng.random() < 0.65
        pan = self.size * np.exp(rng.uniform(np.log(0.1), np.log(2.0))) if moving else 0.0
        drift = self.size * rng.normal(0, 0.03, 2) * (moving and rng.random() < 0.4)
        shake = self.size * rng.exponential(0.012) * (moving and rng.random() < 0.6)
        zoom = rng.uniform(0, 0.2) * (moving and rng.random() < 0.4)
        slow = rng.uniform(60, 300, 4)
        self._drift = (float(drift[0]), float(drift[1]))
        self._camera_channels = self._wander.add(
            rng,
            (pan, slow[0]),
            (pan * rng.uniform(0.1, 0.7), slow[1]),
            (zoom, slow[2]),
            (rng.exponential(0.02) * moving, slow[3]),
            (min(shake, 6.0), rng.uniform(8, 20)),
            (min(shake, 6.0), rng.uniform(8, 20)),
        )

    def _light_up(self, rng: np.random.Generator) -> None:
        style = self.style
        changing = style.light and rng.random() < style.light_change
        strength = (rng.uniform(0.1, 0.28), rng.uniform(3, 12), rng.uniform(0.05, 0.2), 0.035)
        calm = (0.03, 1.5, 0.01, 0.012)
        gain, bias, gamma, cast = strength if changing else calm
        gain, gamma = gain * style.strength, gamma * style.strength
        slow = rng.uniform(25, 250, 8)
        self._light_channels = self._wander.add(
            rng,
            (gain, slow[0]),
            (bias, slow[1]),
            (gamma, slow[2]),
            (cast, slow[3]),
            (cast, slow[4]),
            (cast, slow[5]),
            (0.5 * max(self.frame_wh), 2 * slow[6]),
            (0.7, slow[7]),
        )
        light = Light.draw(rng, self.size, changing) if style.light else Light()
        gain, gamma = light.exposure
        self.light = replace(light, exposure=(gain * style.strength, gamma * style.strength))
        self.lens = Lens.draw(rng) if style.lens else Lens()

    def _choose_target(self, rng: np.random.Generator, sprite: Sprite) -> Actor:
        style, size = self.style, self.size
        # Speeds and ranges are in target sizes; the slowest period follows from both.
        speed = np.exp(rng.uniform(np.log(0.004), np.log(0.12 * style.strength)))
        reach = np.exp(rng.uniform(np.log(0.3), np.log(2.5)))
        self._way = (reach * size, float(np.clip(2 * np.pi * reach / speed, 12, 600)))
        zoom, spins, turns = rng.random(3) < (style.zoom, style.spin, style.turn)
        actor = self._actor(rng, sprite, size, bool(zoom), bool(spins), bool(turns))
        jumps = []
        if rng.random() < style.fast:
            for _ in range(max(1, int(rng.poisson(self.length / 50)))):
                dx, dy = (rng.normal(0, 0.7, 2) * size).tolist()
                jumps.append((rng.uniform(0, self.length), rng.uniform(1, 5), dx, dy))
        # Most targets stay well inside the frame.
        leaves = rng.random() < style.leaves_view
        self.margin = size * (0.1 if leaves else rng.uniform(0.5, 0.8))
        width, height = self.frame_wh
        anchor = (rng.uniform(0.25, 0.75) * width, rng.uniform(0.3, 0.75) * height)
        colours = self._target_colours(rng, sprite, self._background_colour(anchor))
        return replace(actor, anchor=anchor, jumps=tuple(jumps), colours=colours)

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
        (reach, period), strength = self._way, self.style.strength
        lively = rng.uniform(0.5, 1.5, 4)
        slow = rng.uniform(50, 250, 4)
        channels = self._wander.add(
            rng,
            (reach * lively[0], period * lively[2]),
            (reach * 0.5 * lively[1], period * lively[3]),
            (
                strength * (rng.uniform(0.25, 0.5) if zoom else rng.uniform(0.02, 0.18)),
                1.5 * slow[0],
            ),
            (rng.uniform(0.3, 0.9) if spins else abs(rng.normal(0, 0.09)), slow[1]),
            (abs(rng.normal(0, 0.07)), slow[2]),
            (min(rng.uniform(0.5, 1.4), sprite.turns) if turns else rng.uniform(0, 0.25), slow[3]),
        )
        around = sprite.turns > np.pi
        free = sprite.spins and rng.random() < 0.6
        return Actor(
            sprite=sprite,
            scale=size / float(np.sqrt(sprite.size_wh[0] * sprite.size_wh[1])),
            channels=channels,
            flip=1.0 if rng.random() < 0.5 else -1.0,
            spin=rng.normal(0, 0.03) if spins and sprite.spins else 0.0,
            yaw=(
                rng.uniform(-np.pi, np.pi) if around else rng.normal(0, 0.3) * sprite.turns,
                rng.normal(0, 0.015) if turns and around else 0.0,
            ),
            gait=(rng.uniform(0, 6.28), rng.uniform(0.08, 0.5) * (rng.random() < 0.8)),
            swing=rng.uniform(0.3, 1.15),
            tilt=rng.uniform(-np.pi, np.pi) if free else rng.normal(0, 0.06),
            colours=_UNCOLOURED,
        )

    def _target_colours(
        self, rng: np.random.Generator, sprite: Sprite, behind: np.ndarray
    ) -> ColourMap:
        """Choose the target's colours: its own, like what is behind it, or of the same palette."""
        if rng.random() >= self.style.low_contrast:
            return self._free_colours(rng, sprite)
        if rng.random() < 0.6:
            step = float(np.exp(rng.uniform(np.log(9), np.log(40)))) * rng.choice([-1, 1])
            if not 25 < behind.mean() + step < 215:
                step = -step
            mean = behind + step + rng.normal(0, 4, 3)
        else:
            palette = self._plate_sample().reshape(-1, 3)
            pick = palette[int(rng.integers(len(palette)))].astype(np.float32)
            mean = self.plate_colours(pick) + rng.normal(0, 10, 3)
        return recolouring(
            sprite.mean_colour,
            np.asarray(mean, np.float32),
            rng.normal(0, 20),
            rng.uniform(0.3, 1.0),
            rng.uniform(0.6, 1.1),
        )

    def _free_colours(self, rng: np.random.Generator, sprite: Sprite) -> ColourMap:
        """Choose any colours; people keep roughly the hue of skin."""
        living = sprite.family in ("person", "face")
        hue = rng.normal(0, 9) if living else rng.uniform(-180, 180)
        mean = sprite.mean_colour
        chroma = float(np.linalg.norm(mean - mean.mean()))
        saturation = capped_saturation(rng, chroma, np.exp(rng.normal(-0.05, 0.3)))
        level = exposed(turned(mean, hue, saturation) + np.float32(rng.normal(0, 18)))
        return recolouring(mean, level, hue, saturation, np.exp(rng.normal(0, 0.2)))

    def _plate_sample(self) -> np.ndarray:
        """Return the background as about 32 × 32 mean colours."""
        return self.plate[min(4, len(self.plate) - 1)]

    def _background_colour(self, place: tuple[float, float]) -> np.ndarray:
        """Return the background's mean colour about a place of the world, shape ``(3,)``."""
        level = self._plate_sample()
        x, y, _ = np.linalg.inv(self.plate_to_world) @ np.array([*place, 1.0])
        side = self.plate[0].shape[0]
        column, row = (
            min(max(int(v / side * level.shape[0]), 0), level.shape[0] - 1) for v in (x, y)
        )
        return self.plate_colours(level[row, column].astype(np.float32))

    def _add_lookalikes(self, rng: np.random.Generator) -> int:
        """Add the target's doubles and relatives; return their number."""
        if rng.random() >= self.style.lookalikes:
            return 0
        target, count = self.target, int(rng.integers(1, 5))
        for _ in range(count):
            sprite = target.sprite
            if rng.random() < 0.4:
                same = sprite_numbers(self.bank.sprites, sprite.family)
                sprite = self.bank.sprite(same[int(rng.integers(len(same)))], self.turn)
            actor = self._actor(rng, sprite, self.size * np.exp(rng.normal(0, 0.16)))
            colours = target.colours
            if sprite is not target.sprite or rng.random() < 0.7:
                close = target.colours(target.sprite.mean_colour) + rng.normal(0, 9, 3)
                colours = recolouring(
                    sprite.mean_colour,
                    np.asarray(close, np.float32),
                    rng.normal(0, 12),
                    rng.uniform(0.7, 1.1),
                    rng.uniform(0.8, 1.15),
                )
            self._stand_by(rng, actor, colours, rng.uniform(0, 1))
        return count

    def _add_passers_by(self, rng: np.random.Generator) -> None:
        """Add others who are unlike the target."""
        for _ in range(int(rng.poisson(0.8))):
            sprite = self._other_sprite(rng)
            actor = self._actor(rng, sprite, self.size * np.exp(rng.normal(0, 0.35)))
            self._stand_by(rng, actor, self._free_colours(rng, sprite), rng.uniform(0, 0.5))

    def _other_sprite(self, rng: np.random.Generator) -> Sprite:
        """Return a sprite that is not the target's; busts stand only beside faces."""
        while True:
            number = int(rng.integers(self.bank.sprites))
            bust = self.bank.family(number) == "face" and self.target.sprite.family != "face"
            if number != self.sprite_number and not bust:
                return self.bank.sprite(number, self.turn)

    def _stand_by(
        self, rng: np.random.Generator, actor: Actor, colours: ColourMap, company: float
    ) -> None:
        """Place an actor near the target's way."""
        turn, far = rng.uniform(0, 2 * np.pi), self.size * rng.uniform(0.8, 3.2)
        x, y = self.target.anchor
        anchor = (x + far * np.cos(turn), y + 0.7 * far * np.sin(turn))
        front = bool(rng.random() < 0.3)
        self.actors.append(
            replace(actor, colours=colours, anchor=anchor, company=company, front=front)
        )

    def _add_scenery(self, rng: np.random.Generator) -> None:
        """Add things behind the target that the background does not hold."""
        for _ in range(int(rng.poisson(0.4))):
            extent = self.size * np.exp(rng.normal(0.6, 0.5))
            slab = draw_slab(rng, self.bank, extent, self.frame_wh, front=False, turn=self.turn)
            x, y = np.array(self.target.anchor) + rng.normal(0, 2.0, 2) * self.size
            self.slabs.append(slab.placed((float(x), float(y))))

    def _occlude(self, rng: np.random.Generator, t: float) -> None:
        """Let something pass before the target around time ``t``."""
        size = self.size
        full = rng.random() < self.style.full_occlusion
        values = self._wander.at(t)
        x, y = self._target_place(values, t)
        dx, dy = (rng.normal(0, 0.12 if full else 0.4, 2) * size).tolist()
        at = (x + dx, y + dy)
        speed = size * np.exp(rng.uniform(np.log(0.02), np.log(0.12)))
        turn = rng.choice([0.0, np.pi]) + rng.normal(0, 0.25)
        passing = (float(speed * np.cos(turn)), float(speed * np.sin(turn)), t)
        if rng.random() < 0.35:
            sprite = self._other_sprite(rng)
            actor = self._actor(
                rng, sprite, size * (rng.uniform(1.4, 2.0) if full else rng.uniform(0.6, 1.3))
            )
            colours = self._free_colours(rng, sprite)
            self.actors.append(
                replace(actor, colours=colours, anchor=at, passing=passing, front=True)
            )
            return
        extent = size * (rng.uniform(1.8, 2.6) if full else rng.uniform(0.3, 1.2))
        slab = draw_slab(rng, self.bank, extent, self.frame_wh, True, full, self.turn)
        if rng.random() < 0.5:
            self.slabs.append(replace(slab, anchor=at, passing=passing))
            return
        # Standing in the world: it must be where the camera then sees the target.
        x, y, _ = np.linalg.inv(self._camera(values, t)) @ np.array([*at, 1.0])
        self.slabs.append(slab.placed((float(x), float(y))))

    # --- one instant ------------------------------------------------------------------------------

    def _settle(self, t: float) -> Instant:
        values, before = self._wander.at(t), self._wander.at(t - 1)
        camera, past = self._camera(values, t), self._camera(before, t - 1)
        middle = np.array([self.frame_wh[0] / 2, self.frame_wh[1] / 2, 1.0])
        zoom = float(np.exp(values[self._camera_channels][2]))
        target, target_before = self._target_place(values, t), self._target_place(before, t - 1)
        places = [target, *(self._place(a, values, t, target) for a in self.actors[1:])]
        earlier = [
            target_before,
            *(self._place(a, before, t - 1, target_before) for a in self.actors[1:]),
        ]
        gain, bias, gamma, *cast, shadow_at, focus = values[self._light_channels].tolist()
        light = self.light
        tone = np.arange(256) / 255
        tone = tone ** np.exp(gamma + light.exposure[1]) * np.exp(gain + light.exposure[0])
        tone = 255 * tone[:, None] * (1 + np.array(cast)) + bias
        return Instant(
            t=t,
            camera=camera,
            camera_step=((camera - past) @ middle)[:2],
            actors=tuple(self.actors),
            poses=tuple(a.pose(values, t, light.direction) for a in self.actors),
            roots=tuple(
                a.root(values, t, p, zoom) for a, p in zip(self.actors, places, strict=True)
            ),
            steps=np.array(places) - np.array(earlier),
            tone=np.clip(np.rint(tone), 0, 255).astype(np.uint8)[None],
            shadow_at=shadow_at,
            defocus=self.lens.defocus * min(max(0.5 + focus, 0.0), 1.0),
        )

    def _camera(self, values: np.ndarray, t: float) -> np.ndarray:
        """Return the map from world to frame px, 3 × 3."""
        pan_x, pan_y, zoom, roll, shake_x, shake_y = values[self._camera_channels].tolist()
        width, height = self.frame_wh
        c, s = np.exp(zoom) * np.cos(roll), np.exp(zoom) * np.sin(roll)
        x = -width / 2 + pan_x + self._drift[0] * (t - self.length / 2)
        y = -height / 2 + pan_y + self._drift[1] * (t - self.length / 2)
        return np.array(
            [
                [c, -s, width / 2 + c * x - s * y + shake_x],
                [s, c, height / 2 + s * x + c * y + shake_y],
                [0, 0, 1.0],
            ]
        )

    def _target_place(self, values: np.ndarray, t: float) -> tuple[float, float]:
        actor = self.target
        own = values[actor.channels]
        x, y = actor.anchor[0] + float(own[0]), actor.anchor[1] + float(own[1])
        for start, duration, dx, dy in actor.jumps:
            step = smooth_step(t, start, duration)
            x, y = x + dx * step, y + dy * step
        width, height = self.frame_wh
        margin_x, margin_y = min(self.margin, width * 0.4), min(self.margin, height * 0.4)
        shake = values[self._camera_channels]
        return (
            fold(x, margin_x, width - margin_x) + float(shake[4]),
            fold(y, margin_y, height - margin_y) + float(shake[5]),
        )

    def _place(
        self, actor: Actor, values: np.ndarray, t: float, target: tuple[float, float]
    ) -> tuple[float, float]:
        x, y = actor.anchor
        if actor.passing is not None:
            vx, vy, since = actor.passing
            return x + vx * (t - since), y + vy * (t - since)
        own, along = values[actor.channels], self.target.anchor
        return (
            x + float(own[0]) + actor.company * (target[0] - along[0]),
            y + float(own[1]) + actor.company * (target[1] - along[1]),
        )


@lru_cache(maxsize=64)
def sprite_numbers(count: int, family: str | None) -> tuple[int, ...]:
    """Return the numbers of a bank's sprites of one family, or all."""
    probe = Bank(sprites=count)
    return tuple(i for i in range(count) if family is None or probe.family(i) == family)
