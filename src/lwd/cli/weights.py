"""Published policies: which robot acts with which."""

from tyro.conf import Positional
from tyro.extras import SubcommandApp

from lwd.cli.flags import Plane
from lwd.config import PlaneConfig

weights = SubcommandApp()


@weights.command(name="list")
def list_weights(plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Every published version: whence it came, who gets it, who acts with it.

    For example:
        lwd weights list --root runs/demo
    """
    from rich.console import Console
    from rich.table import Table

    from lwd.store.catalog import Catalog

    table = Table("version", "stage", "update", "snapshot", "bytes", "for", "note", "acting")
    with Catalog(plane.catalog) as catalog:
        acting = catalog.acting()
        for row in catalog.list_weights():
            robots = sorted(robot for robot, version in acting.items() if version == row.version)
            audience = row.audience.strip(",") or ("nobody" if row.audience else "all")
            numbers = (row.version, row.stage, row.update, row.snapshot, row.size_bytes)
            table.add_row(*map(str, numbers), audience, row.note, " ".join(robots))
    Console().print(table)


@weights.command
def promote(version: Positional[int], plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Give every robot the policy of a version, a canary's say. It becomes a new version, and what
    the learner publishes reaches robots again.

    For example:
        lwd weights promote 12 --root runs/demo

    Args:
        version: The version to give to all.
        plane: Which catalog.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        print(f"version {catalog.promote_weights(version).version}: promoted {version}")


@weights.command
def rollback(version: Positional[int], plane: Plane = PlaneConfig()) -> None:  # noqa: B008
    """Give every robot the policy of an older version. It becomes a new version, and nothing that
    the learner publishes reaches a robot until something is promoted.

    For example:
        lwd weights rollback 9 --root runs/demo

    Args:
        version: The version to go back to.
        plane: Which catalog.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        print(f"version {catalog.roll_back_weights(version).version}: rolled back to {version}")
