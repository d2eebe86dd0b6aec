"""What may happen in a scene."""

from dataclasses import dataclass


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
        strength: Amplitude of zoom, light, exposure and the target's speed, as a share of the full one.
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
    strength: float = 1.0
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
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: expected a share in (0, 1], got {self.strength}")
        low, high = self.target_px
        if not 4 <= low <= high:
            raise ValueError(f"target_px: expected 4 <= low <= high, got {self.target_px}")
        if self.frame_wh is not None and min(self.frame_wh) < 2 * low:
            raise ValueError(
                f"frame_wh: expected at least twice the smallest target ({low} px), got "
                f"{self.frame_wh}"
            )
