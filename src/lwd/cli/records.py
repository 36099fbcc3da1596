"""Commands about what the fleet has recorded: the catalog, the object store, and who made what."""

import getpass
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from lwd.cli.findings import show
from lwd.cli.flags import AsJson, Plane
from lwd.config import PlaneConfig
from lwd.errors import ConfigError
from lwd.store.rows import EpisodeRow

SHOWN = ("episode_id", "robot", "task", "kind", "policy_version", "outcome", "ticks")
DAY_S = 86_400.0

snapshots = SubcommandApp()


def status(plane: Plane = PlaneConfig(), as_json: AsJson = False) -> None:  # noqa: B008
    """How the data plane is: what has come, what waits, who coordinates, who acts with what.

    For example:
        lwd status --root runs/demo

    Args:
        plane: Which catalog.
        as_json: Print one JSON object.
    """
    from lwd.store.catalog import COORDINATOR, Catalog

    with Catalog(plane.catalog) as catalog:
        version, newest, lease = (
            catalog.snapshot_version(),
            catalog.latest_weights(),
            catalog.lease(COORDINATOR),
        )
        found = {
            "episodes": catalog.count_episodes(),
            "snapshot": version,
            "in_snapshot": len(catalog.snapshot_episodes(version)),
            "retained_from": max(catalog.retained(), 1),
            "waiting": catalog.count_unsnapshotted(),
            "amendments_waiting": len(catalog.amendments(pending=True)),
            "dead_letters": len(catalog.dead_letters()),
            "notices_waiting": catalog.backlog(),
            "coordinator": lease.holder if lease and lease.expires_at > time.time() else None,
            "weights": newest.version if newest else None,
            "acting": catalog.acting(),
        }
    if as_json:
        print(json.dumps(found))
        return
    table = Table(show_header=False)
    for name, value in found.items():
        shown = ", ".join(f"{k}: {v}" for k, v in value.items()) if name == "acting" else value
        table.add_row(name.replace("_", " "), "none" if shown in (None, "") else str(shown))
    Console().print(table)


def episodes(  # noqa: PLR0913
    plane: Plane = PlaneConfig(),  # noqa: B008
    *,
    robot: str = "",
    task: str = "",
    kind: str = "",
    outcome: str = "",
    policy_version: int | None = None,
    limit: int = 20,
    as_json: AsJson = False,
) -> None:
    """The newest episodes of the catalog, as they were recorded.

    For example:
        lwd episodes --root runs/demo --outcome failure --limit 5

    Args:
        plane: Which catalog.
        robot: Only of this robot.
        task: Only of this task.
        kind: Only of this kind: demo, play, rollout or online.
        outcome: Only those that ended so: success, failure, timeout or interrupted.
        policy_version: Only those in which this policy acted.
        limit: Longest list.
        as_json: Print a JSON array.
    """
    from lwd.store.catalog import Catalog

    wanted: dict[str, Any] = {"robot": robot, "task": task, "kind": kind, "outcome": outcome}
    wanted = {name: value for name, value in wanted.items() if value}
    if policy_version is not None:
        wanted["policy_version"] = policy_version
    with Catalog(plane.catalog) as catalog:
        rows = catalog.newest_episodes(limit, **wanted)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        Console().print(_table(rows))


@snapshots.command
def diff(
    older: Positional[int],
    newer: Positional[int],
    plane: Plane = PlaneConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """What joined, left and was relabelled between two versions of the data set, and who did it.

    For example:
        lwd snapshots diff 3 7 --root runs/demo

    Args:
        older: The earlier version; 0 is the empty one.
        newer: The later version.
        plane: Which catalog.
        as_json: Print one JSON object.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        newest = catalog.snapshot_version()
        if not 0 <= older <= newer <= newest:
            raise ConfigError(f"Versions {older} and {newer}: give two of 0 to {newest}, in order.")
        found = catalog.snapshot_difference(older, newer)
    if as_json:
        print(json.dumps(_plain(found._asdict())))
        return
    console = Console()
    for name in ("joined", "left", "relabelled"):
        rows = getattr(found, name)
        console.print(f"{len(rows)} {name}", _table(rows) if rows else "")
    for entry in found.amendments:
        console.print(f"{entry.change} {entry.value} {entry.episode_id}: {entry.reason}")
        console.print(f"  by {entry.author}, in version {entry.version}")


@snapshots.command
def retain(
    version: Positional[int],
    plane: Plane = PlaneConfig(),  # noqa: B008
    *,
    reason: str,
    author: str = "",
) -> None:
    """Give up the versions before this one; their payloads may then be collected. There is no way
    back.

    For example:
        lwd snapshots retain 12 --root runs/demo --reason 'the versions before had the wrong labels'

    Args:
        version: The oldest version to keep.
        plane: Which catalog.
        reason: Why; it stays in the catalog.
        author: Who; the name of this user if none is given.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        kept = catalog.retain_from(version, author=author or getpass.getuser(), reason=reason)
    print(f"versions from {kept} on are retained")


@snapshots.command
def collect(
    plane: Plane = PlaneConfig(),  # noqa: B008
    grace_days: float = 30.0,
    dry_run: bool = False,
    as_json: AsJson = False,
) -> None:
    """Move payloads aside that no retained version and no waiting episode needs, and delete what
    has been aside for as long.

    For example:
        lwd snapshots collect --root runs/demo --dry-run

    Args:
        plane: Which catalog and object store.
        grace_days: Age at which a payload may go; longer than any robot is offline.
        dry_run: Only say what would be done.
        as_json: Print one JSON object.
    """
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects
    from lwd.store.retention import collect as collect_now

    with Catalog(plane.catalog) as catalog:
        found = collect_now(
            catalog,
            Objects(plane.objects),
            now=time.time(),
            grace_s=grace_days * DAY_S,
            dry_run=dry_run,
        )
    if as_json:
        print(json.dumps(found._asdict()))
        return
    counts = (len(found.aside), len(found.deleted), len(found.restored), found.kept)
    print("{} moved aside, {} deleted, {} brought back, {} kept".format(*counts))


def lineage(
    plane: Plane = PlaneConfig(),  # noqa: B008
    *,
    policy: int | None = None,
    episode: str = "",
    as_json: AsJson = False,
) -> None:
    """Which episodes trained a policy, or which policy made an episode and which it trained.

    For example:
        lwd lineage --root runs/demo --policy 3
        lwd lineage --root runs/demo --episode $EPISODE

    Args:
        plane: Which catalog.
        policy: Version of a policy.
        episode: Id of an episode.
        as_json: Print one JSON object.
    """
    from lwd.store import lineage as of
    from lwd.store.catalog import Catalog

    if (policy is None) == (not episode):
        raise ConfigError("Give either --policy VERSION or --episode ID.")
    with Catalog(plane.catalog) as catalog:
        found = of.episode(catalog, episode) if policy is None else of.policy(catalog, policy)
    if as_json:
        print(json.dumps(_plain(found._asdict())))
    elif isinstance(found, of.Policy):
        line = f"version {found.weights.version}: {found.weights.stage}, update "
        line += f"{found.weights.update}, snapshot {found.weights.snapshot}; "
        line += f"{found.made} episodes made, trained on {len(found.trained_on)}"
        Console().print(line, _table(found.trained_on))
    else:
        _print_life(found)


def amend(
    episode: Positional[str],
    change: Positional[str],
    value: Positional[str] = "",
    plane: Plane = PlaneConfig(),  # noqa: B008
    *,
    reason: str,
    author: str = "",
) -> None:
    """Correct what the data set says about an episode, from the next snapshot on.

    A change is `tombstone` or `restore`, or a label: `outcome '"failure"'`, or in which ticks a
    person acted, `human '[[0, 10]]'`, or how far each sub-step was done, `substeps '[1, 0.5]'`.

    For example:
        lwd amend $EPISODE tombstone --reason 'the camera was covered'
        lwd amend $EPISODE outcome '"failure"' --reason 'it fell off afterwards'

    Args:
        episode: Its id.
        change: What to do.
        value: The label, as JSON.
        plane: Which catalog.
        reason: Why; it stays in the audit trail.
        author: Who; the name of this user if none is given.
    """
    from lwd.store.catalog import Catalog

    with Catalog(plane.catalog) as catalog:
        who = author or getpass.getuser()
        number = catalog.amend(episode, change, value, author=who, reason=reason)
    print(f"amendment {number}: waits for the next snapshot")


def doctor(
    plane: Plane = PlaneConfig(),  # noqa: B008
    spools: Path | None = None,
    fix: Annotated[bool, arg(name="repair")] = False,
    deep: bool = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong between catalog and object store, explain it, and repair it if asked.

    The exit status is 0 if nothing is left that is wrong.

    For example:
        lwd doctor --root runs/demo
        lwd doctor --root runs/demo --deep --repair

    Args:
        plane: Which catalog and object store.
        spools: Folder of the robots' spools, with copies of payloads; ROOT/spool if none is given.
        fix: Repair what can be repaired.
        deep: Download every payload and compare its hash, not only its size.
        as_json: Print a JSON array.
    """
    from lwd.edge.copies import described, spool_copies
    from lwd.store.catalog import Catalog
    from lwd.store.doctor import Patient, examine, repair
    from lwd.store.objects import Objects

    with Catalog(plane.catalog) as catalog:
        patient = Patient(
            catalog=catalog,
            objects=Objects(plane.objects),
            clock=time.time,
            copy=spool_copies(spools or plane.root / "spool"),
            describe=described,
            patience_s=plane.patience_s,
            deep=deep,
        )
        findings = examine(patient)
        outcomes = [repair(patient, finding) if fix else "" for finding in findings]
    show(findings, outcomes, as_json=as_json)


def spool(root: Path = Path("runs/demo"), as_json: AsJson = False) -> None:
    """Where the episodes of this machine's robots are: waiting, delivered, refused or dropped.

    For example:
        lwd spool --root runs/demo

    Args:
        root: Folder of the run; the robots' spools are in ROOT/spool.
        as_json: Print a JSON array, with every episode that was refused or dropped.
    """
    from lwd.edge.account import KEPT, Fate, account

    found = [account(path.parent) for path in sorted((root / "spool").glob("*/pending"))]
    if as_json:
        print(json.dumps([robot.to_json() for robot in found]))
        return
    table = Table("robot", "waiting", "bytes", "delivered", "refused", "recovered", "dropped")
    for robot in found:
        lost = [f"{n} {fate}" for fate, n in sorted(robot.fates.items()) if fate not in KEPT]
        recovered = robot.fates.get(Fate.RECOVERED, 0)
        numbers = (robot.waiting, robot.waiting_bytes, robot.delivered, len(robot.refused))
        table.add_row(robot.robot, *map(str, (*numbers, recovered)), ", ".join(lost) or "0")
    Console().print(table)
    for robot in found:
        for episode, reason in (*robot.refused.items(), *robot.dropped):
            print(f"{robot.robot} {episode} {reason}")


def _print_life(found: Any) -> None:
    console = Console()
    console.print(_table([found.row]))
    acted = "no published policy"
    if found.acted:
        old = f"{found.age_s:.0f} s old, {found.behind} newer at its end"
        acted = f"policy {found.acted.version} ({old})"
    console.print(f"made by {acted}; joined the data set in version {found.joined}")
    for entry in found.amendments:
        since = f"version {entry.version}" if entry.version else "the next snapshot"
        console.print(f"{entry.change} {entry.value} from {since} on, by {entry.author}:")
        console.print(f"  {entry.reason}")
    console.print(f"trained policies: {', '.join(map(str, found.trained)) or 'none'}")


def _table(rows: Iterable[EpisodeRow]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in SHOWN:
        # An id is there to be copied: it is never cut off, whatever the others have to do.
        whole = name == "episode_id"
        title = name.removesuffix("_version").replace("_", " ")
        table.add_column(title, no_wrap=whole, min_width=32 if whole else None)
    for row in rows:
        table.add_row(*(str(getattr(row, name)) for name in SHOWN))
    return table


def _plain(value: Any) -> Any:
    """The value in types that JSON has."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
