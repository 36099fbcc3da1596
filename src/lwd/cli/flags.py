"""Flags that many commands share."""

from typing import Annotated, Literal

from tyro.conf import arg

from lwd.config import ActorConfig, PlaneConfig

Actor = Annotated[ActorConfig, arg(name="")]
"""Which robot, and what it records."""
Plane = Annotated[PlaneConfig, arg(name="")]
"""Where the parts of the data plane are."""
AsJson = Annotated[bool, arg(name="json")]
"""Print one JSON object."""
Rate = Literal["compact", "full"]
"""Control preset: 10 Hz with chunks of 10 ticks, or 30 Hz with 30."""
