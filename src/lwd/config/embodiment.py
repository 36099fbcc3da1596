"""What a robot that is not the simulated one senses, and how it is moved."""

from dataclasses import dataclass
from typing import Literal

from lwd.config.require import require, require_as_declared

StateInput = Literal["prompt", "token", "none"]
"""How a policy reads the state: as integers in the prompt, as a token, or not at all."""
Normalisation = Literal["quantile", "zscore"]
"""By quantiles, or by mean and standard deviation."""


@dataclass(frozen=True, kw_only=True)
class EmbodimentConfig:
    """The robot of the data; nothing given is the simulated one. Only presets that see have it."""

    cameras: tuple[str, ...] = ()
    """The robot's camera for each of the model's, in their order: from above, left wrist, right
    wrist; "" where it has none, the model sees black and a mask."""
    state: tuple[int, ...] = ()
    """Which numbers of its state the policy reads, in this order."""
    anchors: tuple[int, ...] = ()
    """For each dimension of its action the number of the state that targets are relative to, such
    as the measured joint, or -1 for absolute targets, such as a gripper's."""
    optional: tuple[str, ...] = ()
    """Cameras of the robot that an observation may lack."""
    state_input: Literal["preset", "prompt", "token", "none"] = "preset"
    """How the state is read: as the preset does, in the prompt or as a token, or not at all, as by
    a pi0.5 of openpi's discrete_state_input=False."""
    normalisation: Literal["preset", "quantile", "zscore"] = "preset"
    """States and actions by quantiles, as the presets do, or by mean and standard deviation."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        given = [name for name in ("cameras", "state", "anchors") if getattr(self, name)]
        require(
            len(given) in (0, 3),
            f"an embodiment has cameras, state and anchors, but only {', '.join(given)} is given; "
            "give all three, or none of them for the simulated robot.",
        )
        least = [number for number in self.state if number < 0]
        require(not least, f"state has {least}; numbers of a state count from 0.")
        require(
            all(number >= -1 for number in self.anchors),
            f"anchors are {self.anchors}; each is a number of the state, or -1 for absolute.",
        )

    @property
    def simulated(self) -> bool:
        """Whether it is the simulated robot."""
        return not self.cameras
