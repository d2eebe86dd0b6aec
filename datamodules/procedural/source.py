"""Training pairs drawn on the fly."""

import copy
import re
from dataclasses import dataclass

import numpy as np

from lightning_trackers.crops import Window

from .bank import Bank
from .scene import Scene
from .style import Style

_LENGTH = 240  # frames of the video that a pair is taken from
_TRIES = 4  # scenes or frames looked at before a half hidden target is accepted
_ID = re.compile(r"procedural/(\w+)/t(\d+)/(\d+)/f(\d+)-(?:(\d+)(\w*)~(\d+)/)?f(\d+)")


@dataclass(frozen=True)
class SceneView:
    """One frame of a scene, drawn only where a window looks."""

    scene: Scene
    t: float
    box_xyxy: np.ndarray

    def crop(self, window: Window) -> np.ndarray:
        """Return what the window shows, uint8 RGB ``(size, size, 3)``."""
        return self.scene.crop(self.t, window)

    def frame(self) -> np.ndarray:
        """Return the whole frame, uint8 RGB ``(H, W, 3)``."""
        return self.scene.frame(self.t)


class ProceduralSource:
    """Exemplar and search views of drawn video.

    What ``draw`` returns depends on the source's arguments and on ``rng`` alone, not on earlier
    draws or on the process. The pictures scenes are made of come from a bank that fills on first
    use, some 10 ms an entry over the first thousand pairs.

    Args:
        seed: Seed of the bank and of every scene.
        split: ``train``, ``val`` or ``test``; splits share no picture and no scene.
        style: What may happen in a scene.
        plates: Number of backgrounds in the bank.
        sprites: Number of sprites in the bank.
        turn: Turn of the bank; each step replaces an eighth of its pictures.
        pairs_per_turn: Pairs after which the bank turns, so that a long training does not learn the
            bank's pictures by heart; None never turns it.
        memory_mb: Memory limit of the bank in each process.
        hard_negatives: Share of the negative pairs whose search view shows a target of the same
            family as the exemplar's.
    """

    name = "procedural"

    def __init__(
        self,
        seed: int = 0,
        split: str = "train",
        style: Style | None = None,
        plates: int = 64,
        sprites: int = 320,
        turn: int = 0,
        pairs_per_turn: int | None = None,
        memory_mb: float = 150.0,
        hard_negatives: float = 0.5,
    ) -> None:
        if turn < 0:
            raise ValueError(f"turn: expected a non-negative integer, got {turn}")
        if pairs_per_turn is not None and pairs_per_turn < 1:
            raise ValueError(
                f"pairs_per_turn: expected a positive integer or null, got {pairs_per_turn}"
            )
        if not 0 <= hard_negatives <= 1:
            raise ValueError(f"hard_negatives: expected a share in [0, 1], got {hard_negatives}")
        self.bank = Bank(seed, split, plates, sprites, memory_mb)
        self.style = style if style is not None else Style()
        self.turn, self.pairs_per_turn = turn, pairs_per_turn
        self.hard_negatives = hard_negatives

    def at(self, number: int) -> "ProceduralSource":
        """Return the source of pair ``number``: this one, with the bank at the pair's turn."""
        if self.pairs_per_turn is None:
            return self
        source = copy.copy(self)
        source.turn = self.turn + number // self.pairs_per_turn
        return source

    def draw(
        self, rng: np.random.Generator, *, max_gap: int, positive: bool
    ) -> tuple[SceneView, SceneView, str]:
        """Draw a pair of views.

        Args:
            rng: Source of chance.
            max_gap: Largest distance of the two frames, frames.
            positive: Whether both views show the same target. If not, the search view comes from
                another scene whose target is another sprite.

        Returns:
            Exemplar view, search view, and the pair's id, which :meth:`redraw` understands.

        Raises:
            ValueError: If ``max_gap`` is negative.
        """
        if max_gap < 0:
            raise ValueError(f"max_gap: expected 0 or more frames, got {max_gap}")
        if not positive:
            return self._draw_negative(rng)
        for _ in range(_TRIES):
            seed = int(rng.integers(2**62))
            scene = self._scene(seed)
            first, clear = _clear_time(rng, scene, 0, scene.length - 1, 0.75)
            second = first
            if not clear:
                continue  # always half hidden or invisible: little to learn from
            low, high = max(0, first - max_gap), min(scene.length - 1, first + max_gap)
            found, seen = _clear_time(rng, scene, low, high, 0.4)
            second = found if seen else first
            break
        name = f"procedural/{self.bank.split}/t{self.turn}/{seed}/f{first}-f{second}"
        return _view(scene, first), _view(scene, second), name

    def redraw(self, source_id: str) -> tuple[SceneView, SceneView]:
        """Return the views of an id that ``draw`` gave.

        Raises:
            ValueError: If the id is not one of this source's.
        """
        found = _ID.fullmatch(source_id)
        if found is None or found[1] != self.bank.split:
            raise ValueError(
                f"source id: expected procedural/{self.bank.split}/t<turn>/<scene>/f<frame>-..., "
                f"got {source_id!r}"
            )
        turn, seed, first, second = (int(found[i]) for i in (2, 3, 4, 8))
        scene = Scene(self.bank, seed, _LENGTH, self.style, turn)
        strange = scene
        if found[5]:
            other, family, without = int(found[5]), found[6] or None, int(found[7])
            strange = Scene(self.bank, other, _LENGTH, self.style, turn, family, without)
        return _view(scene, first), _view(strange, second)

    def _draw_negative(self, rng: np.random.Generator) -> tuple[SceneView, SceneView, str]:
        seed, other = (int(s) for s in rng.integers(2**62, size=2))
        scene = self._scene(seed)
        hard = rng.random() < self.hard_negatives
        family = scene.play.target.sprite.family if hard else None
        number = scene.play.sprite_number
        strange = self._scene(other, family, number)
        first, _ = _clear_time(rng, scene, 0, scene.length - 1, 0.5)
        second, _ = _clear_time(rng, strange, 0, strange.length - 1, 0.5)
        head = f"procedural/{self.bank.split}/t{self.turn}/{seed}/f{first}"
        name = f"{head}-{other}{family or ''}~{number}/f{second}"
        return _view(scene, first), _view(strange, second), name

    def _scene(self, seed: int, family: str | None = None, without: int = -1) -> Scene:
        return Scene(self.bank, seed, _LENGTH, self.style, self.turn, family, without)


def _clear_time(
    rng: np.random.Generator, scene: Scene, low: int, high: int, wanted: float
) -> tuple[int, bool]:
    """Choose a frame from ``low`` to ``high``; say whether ``wanted`` of the target is visible."""
    best, best_seen = low, -1.0
    for _ in range(_TRIES):
        t = int(rng.integers(low, high + 1))
        seen = scene.visibility(t)
        if seen > wanted:
            return t, True
        if seen > best_seen:
            best, best_seen = t, seen
    return best, False


def _view(scene: Scene, t: int) -> SceneView:
    return SceneView(scene, t, scene.box_xyxy(t).astype(np.float32))
