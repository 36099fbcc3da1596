"""`lwd robot`: `lwd.cli` gives it its name. What it needs it imports itself."""

from typing import Annotated, Literal

from tyro.conf import arg

from lwd.config import ActorConfig, DemoConfig, PlaneConfig, StateLayout, control
from lwd.config.guidance import GuidanceConfig

Actor = Annotated[ActorConfig, arg(name="")]
Plane = Annotated[PlaneConfig, arg(name="")]
Guidance = Annotated[GuidanceConfig, arg(name="")]
TASKS = DemoConfig().tasks


def robot(
    actor: Actor = ActorConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    guidance: Guidance = GuidanceConfig(),  # noqa: B008
    tasks: tuple[str, ...] = TASKS,
    rate: Literal["compact", "full"] = "compact",
    held_out: bool = False,
    intervene: bool = True,
) -> None:
    """Run one simulated robot: act, record, spool, reload newer weights between episodes.

    Args:
        actor: Which robot, and what it records.
        plane: Where the parts of the data plane are.
        guidance: Who tells the robot what to do, besides the fleet's own policy.
        tasks: Tasks that the robot draws its episodes from.
        rate: Control preset: 10 Hz with chunks of 10 ticks, or 30 Hz with 30.
        held_out: Draw scenes from the held-out split.
        intervene: Online, a simulated human takes over when the policy is stuck.
    """
    from lwd.actor.process import main
    from lwd.episode.types import Kind
    from lwd.serve.rig import guided
    from lwd.sim.rig import Circumstances, rig
    from lwd.sim.tasks import task
    from lwd.store.metrics import expose
    from lwd.store.process import stop_on_signals

    for name in tasks:
        task(name)
    stop, chosen = stop_on_signals(), control(rate)
    parts = rig(
        Kind(actor.kind),
        tasks,
        chosen,
        robot_id=actor.robot,
        held_out=held_out,
        intervene=intervene,
        circumstances=Circumstances(
            cameras=actor.cameras, image_size=actor.image_size, image_every=actor.image_every
        ),
    )
    joints = StateLayout().joints
    expose(plane.metrics_port)
    main(
        actor,
        plane,
        guided(parts, guidance, chosen, robot_id=actor.robot, joints=joints, stop=stop),
        stop=stop,
    )


COMMANDS = (robot,)
