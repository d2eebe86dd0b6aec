"""The bank: plates, sprites and noise drawn on first use and kept within a memory limit."""

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from .backgrounds import draw_plate
from .families import FAMILIES, draw_sprite
from .sprites import Sprite, mips
from .textures import NOISE_SIZE, power_noise

Entry = TypeVar("Entry")
SPLITS = ("train", "val", "test")
_RENEWAL = 8  # in each turn one entry in eight is replaced


class Bank:
    """Draws pictures that scenes share.

    What an entry shows depends only on the seed, the split and the entry's number, so every
    process that asks for it gets the same pixels; entries of different splits have nothing in
    common. Scenes recolour, turn, flip and combine entries, which multiplies their variety.

    Args:
        seed: Seed.
        split: One of ``train``, ``val``, ``test``.
        plates: Number of backgrounds in a turn.
        sprites: Number of sprites in a turn.
        memory_mb: Limit on the memory of kept entries; the longest unused go first.

    Raises:
        ValueError: If the split is unknown or a number is not positive.
    """

    def __init__(
        self,
        seed: int = 0,
        split: str = "train",
        plates: int = 64,
        sprites: int = 320,
        memory_mb: float = 150.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        for name, value in (("plates", plates), ("sprites", sprites), ("memory_mb", memory_mb)):
            if value <= 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")
        if seed < 0:
            raise ValueError(f"seed: expected a non-negative integer, got {seed}")
        self.seed, self.split = seed, split
        self.plates, self.sprites, self.memory_mb = plates, sprites, memory_mb
        self._kept: OrderedDict[tuple[str, int, int], tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the entries behind: another process draws the same ones again."""
        kept = {k: v for k, v in self.__dict__.items() if k not in ("noises", "sensor_noise")}
        return {**kept, "_kept": OrderedDict(), "_bytes": 0}

    def rng(self, *key: int) -> np.random.Generator:
        """Return the generator that belongs to a key within this seed and split."""
        return np.random.default_rng([self.seed, SPLITS.index(self.split), *key])

    @cached_property
    def noises(self) -> list[np.ndarray]:
        """Grain tiles, float32 ``(256, 256)`` each."""
        rng = self.rng(0)
        return [
            power_noise(rng, rng.uniform(1.6, 2.4), np.exp(rng.normal(0, 0.3))) for _ in range(8)
        ]

    @cached_property
    def sensor_noise(self) -> np.ndarray:
        """Slightly correlated noise around 128 with deviation 32, uint8 ``(512, 512, 3)``."""
        n = 2 * NOISE_SIZE
        rng = self.rng(1)
        grey, tint = rng.normal(0, 1, (n, n, 1)), rng.normal(0, 1, (n, n, 3))
        field = 0.8 * grey + 0.6 * tint
        return np.asarray(np.clip(128 + 32 * field, 0, 255), dtype=np.uint8)

    def plate(self, index: int, turn: int = 0) -> tuple[np.ndarray, ...]:
        """Return the mip levels of a background, uint8 RGB, the largest ``(512, 512, 3)``."""
        version = (turn + index % _RENEWAL) // _RENEWAL

        def build() -> tuple[np.ndarray, ...]:
            return mips(draw_plate(self.rng(2, index, version), self.noises))

        return self._get(("plate", index, version), build, lambda v: sum(p.nbytes for p in v))

    def sprite(self, index: int, turn: int = 0) -> Sprite:
        """Return a sprite; the index settles its family, see :meth:`family`."""
        version = (turn + index % _RENEWAL) // _RENEWAL

        def build() -> Sprite:
            return draw_sprite(self.rng(3, index, version), self.noises, self.family(index))

        return self._get(("sprite", index, version), build, _sprite_bytes)

    def family(self, index: int) -> str:
        """Return the family of a sprite number, the same in every turn."""
        names = list(FAMILIES)
        weights = np.cumsum([FAMILIES[n][1] for n in names])
        # The golden ratio spreads the families evenly over the numbers.
        return names[int(np.searchsorted(weights, (index * 0.6180339887) % 1.0 * weights[-1]))]

    def _get(
        self, key: tuple[str, int, int], build: Callable[[], Entry], size: Callable[[Entry], int]
    ) -> Entry:
        if key in self._kept:
            self._kept.move_to_end(key)
            known: Entry = self._kept[key][0]
            return known
        value = build()
        count = size(value)
        self._kept[key] = (value, count)
        self._bytes += count
        while self._bytes > self.memory_mb * 2**20 and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
        return value


def _sprite_bytes(sprite: Sprite) -> int:
    return sum(level.nbytes for part in sprite.parts for level in (*part.surface, *part.mask))
