"""`lwd serve`: `lwd.cli` gives it its name. What it needs it imports itself."""

from typing import Annotated, Literal

from tyro.conf import arg

from lwd.config import PlaneConfig, control
from lwd.config.serving import ServeConfig

Serve = Annotated[ServeConfig, arg(name="")]
Plane = Annotated[PlaneConfig, arg(name="")]


def serve(
    config: Serve = ServeConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    rate: Literal["compact", "full"] = "compact",
) -> None:
    """Serve the fleet's newest policy to robots over openpi's protocol, and record what they do.

    Args:
        config: What the server listens to, how it batches, what it records.
        plane: Where the parts of the data plane are; the tokens are those of the robots, too.
        rate: Control preset of the robots: 10 Hz with chunks of 10 ticks, or 30 Hz with 30.
    """
    from lwd.models.artifact import FlowPolicy
    from lwd.serve.policies import served
    from lwd.serve.process import serve as run
    from lwd.serve.warm import example
    from lwd.store.metrics import expose

    chosen = control(rate)
    expose(plane.metrics_port)

    def build(tensors: dict, metadata: dict, version: int) -> FlowPolicy:
        return FlowPolicy(tensors, metadata, version, control=chosen)

    run(config, plane, chosen, served(build, config.batch, example))


COMMANDS = (serve,)
