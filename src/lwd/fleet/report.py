"""Where a fleet stands, for people."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from lwd.episode.types import Outcome
from lwd.fleet.run import Standing


def line(standings: Sequence[Standing], alive: int) -> str:
    """The whole fleet in one line."""
    total = sum((Counter(robot.outcomes) for robot in standings), Counter())
    ended = ", ".join(f"{total[outcome]} {outcome}" for outcome in Outcome if total[outcome])
    return (
        f"{alive} processes: {sum(r.begun for r in standings)} episodes begun, "
        f"{sum(r.saved for r in standings)} saved ({ended or 'none ended'}), "
        f"{sum(r.lost for r in standings)} lost with their process, "
        f"{sum(r.waiting for r in standings)} not uploaded yet"
    )


def table(standings: Sequence[Standing]) -> Table:
    """Every robot: what it began, how it ended, what is lost and what still waits."""
    shown = Table(title="fleet", title_justify="left")
    names = ("robot", "tasks", "begun", "saved", *Outcome, "lost", "waiting")
    for name in names:
        shown.add_column(name, justify="left" if name in ("robot", "tasks") else "right")
    for robot in standings:
        ended = [robot.outcomes.get(outcome, 0) for outcome in Outcome]
        numbers = (robot.begun, robot.saved, *ended, robot.lost, robot.waiting)
        shown.add_row(robot.robot, " ".join(robot.tasks), *map(str, numbers))
    return shown
