"""The result of a storm for people."""

from rich.console import Group, RenderableType
from rich.table import Table

from lwd.chaos.run import Result


def render(result: Result) -> RenderableType:
    """A table of the counts, then what is wrong, then how to see it again."""
    table = Table(show_header=False)
    numbers = result.to_json()
    for name in (
        "acknowledged",
        "in_snapshots",
        "lost",
        "doubled",
        "corrupted",
        "policies",
        "kills",
    ):
        table.add_row(name, str(numbers[name]))
    for kind, count in result.faults.items():
        table.add_row(f"fault: {kind}", str(count))
    for process, count in result.crashes.items():
        table.add_row(f"ended by itself: {process}", str(count))
    table.add_row("seconds", f"{result.seconds:.0f}")
    verdict = "Nothing was lost, nothing doubled."
    if not result.report.clean:
        verdict = f"NOT CLEAN. Again: --seed {result.seed} and the same numbers."
    return Group(table, *result.report.findings, verdict)
