"""How a robot is controlled and what its state vector holds."""

from dataclasses import dataclass

from lwd.config.require import require, require_not_negative
from lwd.errors import unknown

IMAGE_SIZES = (32, 64, 96, 224)
"""Sides of an image in pixels that some preset of the policy takes."""


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """How often a robot acts and how long a chunk is (V-A1)."""

    rate_hz: float = 30.0
    """Control ticks per second."""
    horizon: int = 30
    """Ticks in an action chunk, H."""
    execute: int | None = None
    """Ticks of a chunk that are carried out before the policy plans the next one; None is all of
    them, as in the paper. Fewer correct a reach sooner and ask the policy more often. Learning
    takes no notice: what it sees are chunks as they were carried out."""
    timestep_s: float = 0.002
    """Physics step of the simulator in seconds."""

    def __post_init__(self) -> None:
        require(self.rate_hz > 0, f"rate_hz is {self.rate_hz}; it must be positive.")
        require(self.horizon > 0, f"horizon is {self.horizon}; it must be positive.")
        require(
            self.execute is None or 0 < self.execute <= self.horizon,
            f"execute is {self.execute}; between 1 and all {self.horizon} ticks of a chunk can be "
            "carried out before the next one.",
        )

    def discount(self, per_tick_30hz: float = 0.9999) -> float:
        """Discount per tick so that one second is discounted as the paper's 30 ticks (-B2)."""
        return per_tick_30hz ** (30.0 / self.rate_hz)


FULL = ControlConfig()
COMPACT = ControlConfig(rate_hz=10.0, horizon=10, execute=5, timestep_s=0.005)
CONTROL: dict[str, ControlConfig] = {"full": FULL, "compact": COMPACT}


def control(name: str) -> ControlConfig:
    """Control preset by name: `full` (30 Hz, H = 30) or `compact` (10 Hz, H = 10, of which 5 are
    carried out)."""
    if name not in CONTROL:
        raise unknown("control rate", name, CONTROL)
    return CONTROL[name]


@dataclass(frozen=True, kw_only=True)
class SightConfig:
    """What a robot's cameras keep."""

    cameras: tuple[str, ...] = ()
    """Cameras whose images are kept, and seen by a policy that sees; none costs no rendering."""
    image_size: int = 96
    """Pixels of a side of their images."""
    image_every: int = 0
    """Ticks between two kept images; 0 is once a chunk."""

    def __post_init__(self) -> None:
        known, size = ", ".join(map(str, IMAGE_SIZES)), self.image_size
        require(size in IMAGE_SIZES, f"image_size is {size}; it must be one of {known}.")
        require_not_negative(self, "image_every")
        once = len(set(self.cameras)) == len(self.cameras)
        require(once, f"cameras are {', '.join(self.cameras)}; name each once.")


BLIND = SightConfig()


@dataclass(frozen=True, kw_only=True)
class StateLayout:
    """Order and sizes of the parts of a state vector: arms, then object slots, then scalars.

    Positions are in m in the robot's base frame; a rotation is its first two columns (6D).
    """

    arms: int = 2
    """Arms of the robot."""
    arm: int = 25
    """Per arm: joint positions 7 (rad), joint velocities 7, gripper opening (m) and its velocity,
    hand position 3, hand rotation 6D."""
    slots: int = 14
    """Object slots; an absent object is all zeros."""
    slot: int = 40
    """Per slot: position 3, rotation 6D, what it holds (50 ml); its identity; whether the left and
    the right hand have it; present."""
    scalars: int = 18
    """Elapsed fraction of the time limit, angles of up to two doors, lids or knobs (rad), fixture
    position 3 and yaw, goal position 3, which of up to eight sub-steps have been done."""
    identity: int = 27
    """Dimensions of a slot that say what the object is: kind one-hot 20, colour one-hot 4, which of
    those that look the same one-hot 3."""
    done: int = 8
    """Last scalars, which say which sub-steps have been done."""

    @property
    def proprio(self) -> int:
        """Dimensions of all arms."""
        return self.arms * self.arm

    @property
    def identities(self) -> slice:
        """Where in a slot its identity lies."""
        end = self.slot - self.arms - 1
        return slice(end - self.identity, end)

    @property
    def size(self) -> int:
        """Length of the whole state vector."""
        return self.proprio + self.slots * self.slot + self.scalars

    @property
    def joints(self) -> list[int]:
        """Index of the measured value of every action dimension (7 joints and gripper, per arm)."""
        return [a * self.arm + i for a in range(self.arms) for i in (*range(7), 14)]

    @property
    def positions(self) -> list[slice]:
        """Where the position of every hand, slot and of the goal lies."""
        hands = [a * self.arm + 16 for a in range(self.arms)]
        slots = [self.proprio + s * self.slot for s in range(self.slots)]
        goal = self.size - self.scalars + 7
        return [slice(first, first + 3) for first in (*hands, *slots, goal)]
