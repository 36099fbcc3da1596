"""The devices that a learner is to run on."""

from dataclasses import dataclass

from lwd.config.require import require


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a stage is to run."""

    devices: int = 1
    """Over all hosts."""
    memory_gib: float = 80.0
    """Of each device."""
    headroom: float = 0.1
    """Share of it that XLA and the driver keep."""
    fsdp: int | None = None
    """Devices over which networks and optimisers are sharded; None is all of them, 1 gives each
    device a copy of its own."""

    def __post_init__(self) -> None:
        shards = self.shards
        require(
            self.devices >= 1 and shards >= 1 and self.devices % shards == 0,
            f"{self.devices} devices cannot be divided into groups of {shards}; give --fsdp a "
            "divisor of --devices.",
        )
        require(
            self.memory_gib > 0 and 0 <= self.headroom < 1,
            f"memory_gib is {self.memory_gib}, headroom {self.headroom}; memory is positive and "
            "headroom a share from 0 to less than 1.",
        )

    @property
    def shards(self) -> int:
        """Parts that a network is cut into."""
        return self.devices if self.fsdp is None else self.fsdp
