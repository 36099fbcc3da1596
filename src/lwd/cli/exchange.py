"""Commands that bring other people's formats in and out."""

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from lwd.cli.findings import show
from lwd.cli.flags import AsJson, Plane
from lwd.config import PlaneConfig
from lwd.config.lerobot import ExportConfig, ImportConfig
from lwd.errors import ConflictError, EpisodeError, MissingError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from lwd.edge.spool import Spool
    from lwd.edge.uploader import Uploader
    from lwd.lerobot.importer import Report as Imported
    from lwd.store.catalog import Catalog

SHOWN = 40
"""Problems that are printed; all are in the report."""

import_ = SubcommandApp()
export_ = SubcommandApp()
data = SubcommandApp()


class Delivery:
    """Imported episodes take a robot's way: the spool, and from it the store and the catalog."""

    def __init__(
        self, spool: "Spool", uploader: "Uploader | None", catalog: "Catalog | None"
    ) -> None:
        self._spool, self._uploader, self._catalog = spool, uploader, catalog

    def has(self, episode_id: str) -> bool:
        """Whether the fleet has the episode; without the fleet, whether the spool has it."""
        if self._catalog is not None:
            return self._catalog.episode(episode_id) is not None
        states = ("pending", "done", "rejected")
        return any((self._spool.root / s / f"{episode_id}.arrow").exists() for s in states)

    def take(self, episode_id: str, payload: bytes) -> None:
        """Spool the payload, and upload it if that was asked for."""
        if self._uploader is not None:
            # An uploaded copy of an episode that is not in the catalog was for another catalog.
            (self._spool.root / "done" / f"{episode_id}.arrow").unlink(missing_ok=True)
        try:
            self._spool.save(episode_id, payload)
        except ConflictError as error:
            # The same recording, made with other settings before a kill: what is spooled stands.
            if not self._spool.path(episode_id).exists():
                raise EpisodeError(str(error)) from error
        if self._uploader is not None:
            self._upload(self._uploader, episode_id)

    def _upload(self, uploader: "Uploader", episode_id: str) -> None:
        if reason := self._spool.rejected().get(episode_id):
            raise EpisodeError(f"it was rejected before: {reason}")
        try:
            uploader.upload(self._spool, episode_id)
        except (EpisodeError, ConflictError) as error:
            self._spool.reject(episode_id, str(error))
            raise EpisodeError(str(error)) from error


@import_.command(name="lerobot")
def import_lerobot(
    path: Positional[Path],
    config: Annotated[ImportConfig, arg(name="")] = ImportConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Import a LeRobotDataset, v3.0 or v2.1. Repeat it after a kill: it goes on where it was, and
    no episode comes twice. The exit status is 1 if no episode could be used.

    For example:
        lwd import lerobot ~/datasets/pick_cube --root runs/mine
        lwd import lerobot ~/datasets/pick_cube --image-every 10 --unlabelled skip

    Args:
        path: Folder of the dataset.
        config: What its columns are, and what its episodes become.
        plane: Which catalog and object store.
        as_json: Print one JSON object.
    """
    from rich.console import Console

    from lwd.edge.spool import Spool
    from lwd.edge.uploader import Uploader
    from lwd.lerobot.columns import plain
    from lwd.lerobot.importer import import_dataset, journal_folder
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects

    console = Console(stderr=True, highlight=False)
    journal = journal_folder(plane.root, path)
    catalog = Catalog(plane.catalog) if config.upload else None
    uploader = Uploader(Objects(plane.objects), catalog) if catalog else None
    folder = plane.root / "spool" / plain(f"import-{journal.name}", "import")
    try:
        with Spool(folder, config.spool_quota_bytes) as spool, _bar(console) as bar:
            if uploader is not None:
                # What a killed run, or one with --no-upload, has spooled.
                uploader.sweep([spool], threading.Event())
            line = bar.add_task("importing", total=None)
            report = import_dataset(
                path,
                config,
                Delivery(spool, uploader, catalog),
                journal,
                lambda now: _show_import(bar, line, now),
            )
    finally:
        if catalog is not None:
            catalog.close()
    _keep(journal / "report.json", report)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        _print_import(report, journal / "report.json", uploaded=config.upload)
    if report.expected and not report.imported + report.already:
        sys.exit(1)


@export_.command(name="lerobot")
def export_lerobot(
    path: Positional[Path],
    config: Annotated[ExportConfig, arg(name="")] = ExportConfig(),  # noqa: B008
    plane: Plane = PlaneConfig(),  # noqa: B008
    as_json: AsJson = False,
) -> None:
    """Export a snapshot of the data set as a LeRobotDataset v3.0.

    For example:
        lwd export lerobot ~/datasets/from_the_fleet --root runs/mine
        lwd export lerobot ~/datasets/successes --root runs/mine --outcome success --images whole

    Args:
        path: Folder of the new dataset; it appears when everything is written.
        config: Which episodes, and how.
        plane: Which catalog and object store.
        as_json: Print one JSON object.
    """
    from rich.console import Console

    from lwd.lerobot.exporter import export_dataset, members
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects, episode_key

    objects = Objects(plane.objects)
    with Catalog(plane.catalog) as catalog:
        chosen = members(catalog, config)
    with _bar(Console(stderr=True, highlight=False)) as bar:
        line = bar.add_task("exporting", total=len(chosen))
        report = export_dataset(
            chosen,
            lambda row: objects.get(episode_key(row.sha256), sha256=row.sha256),
            path,
            config,
            lambda now: bar.update(line, completed=now.exported + len(now.problems)),
        )
    if as_json:
        print(json.dumps(asdict(report)))
        return
    print(f"{report.exported} of {report.expected} episodes, {report.frames} frames: {path}")
    if report.repeated:
        print(f"{report.repeated} pictures were not kept by the robots and repeat the one before")
    for episode, reason in report.problems[:SHOWN]:
        print(f"  left out {episode}: {reason}")


@data.command
def doctor(
    path: Positional[Path],
    fix: Annotated[bool, arg(name="repair")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with a LeRobotDataset, such as a recorder leaves it that was killed, and
    repair it if asked. The exit status is 0 if nothing is left that is wrong.

    For example:
        lwd data doctor ~/datasets/pick_cube
        lwd data doctor ~/datasets/pick_cube --repair

    Args:
        path: Folder of the dataset.
        fix: Repair what can be repaired; every file that is changed stays beside, as it was.
        as_json: Print a JSON array.
    """
    from lwd.lerobot.doctor import examine
    from lwd.lerobot.repair import repair

    findings = examine(path)
    outcomes = repair(path, findings) if fix and findings else [""] * len(findings)
    show(findings, outcomes, as_json=as_json)


def _bar(console: object) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    assert isinstance(console, Console)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def _show_import(bar: "Progress", line: "TaskID", now: "Imported") -> None:
    done = now.imported + now.already + now.skipped
    text = f"{now.frames} frames, {now.already} there already, {now.skipped} not usable"
    bar.update(line, completed=done, total=max(now.expected, done), description=text)


def _print_import(report: "Imported", path: Path, *, uploaded: bool) -> None:
    where = "in the catalog" if uploaded else "in the spool: `lwd edge` uploads them"
    print(f"{report.imported} of {report.expected} episodes imported, {report.frames} frames")
    print(f"{report.already} were there already, {report.skipped} not usable; they are {where}")
    if report.unlabelled:
        print(f"{report.unlabelled} did not say how they ended (--unlabelled, --labels)")
    if report.left_out:
        print(f"features that are not used: {', '.join(report.left_out)}")
    for episode, reason in report.problems[:SHOWN]:
        print(f"  {'dataset' if episode is None else f'episode {episode}'}: {reason}")
    if len(report.problems) > SHOWN:
        print(f"  and {len(report.problems) - SHOWN} more in {path}")


def _keep(path: Path, report: "Imported") -> None:
    from lwd.store.disk import written_aside

    with written_aside(path) as file:
        file.write(json.dumps(asdict(report), indent=1).encode() + b"\n")


@export_.command(name="rerun")
def export_rerun(
    episode: Positional[str],
    path: Positional[Path],
    plane: Plane = PlaneConfig(),  # noqa: B008
    values: bool = False,
) -> None:
    """Export an episode as a Rerun recording: frames, states, actions, who acted.

    For example:
        lwd export rerun $EPISODE episode.rrd --root runs/demo --values

    Args:
        episode: Its id.
        path: File to write, such as episode.rrd.
        plane: Which catalog and object store; with values also which run.
        values: Add what the critic of the newest checkpoint says along the episode.
    """
    from lwd.dashboard import rerun_file
    from lwd.dashboard.critic import curves_along
    from lwd.dashboard.viewer import Viewer
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects

    with Catalog(plane.catalog) as catalog, Viewer(Objects(plane.objects)) as viewer:
        row = catalog.episode(episode)
        if row is None:
            raise MissingError(f"Episode {episode[:80]} is not in the catalog.")
        payload = viewer.path(row)
        curves = curves_along(payload, plane.root / "checkpoints") if values else {}
        print(rerun_file.export(viewer.episode(row), path, curves))


@export_.command(name="tensorboard")
def export_tensorboard(
    path: Positional[Path],
    plane: Plane = PlaneConfig(),  # noqa: B008
    follow: bool = False,
) -> None:
    """Export the learner's metrics as TensorBoard event files.

    For example:
        lwd export tensorboard runs/events --root runs/demo --follow

    Args:
        path: Folder for the event files, without any so far.
        plane: Which run.
        follow: Go on with what the learner reports until SIGINT or SIGTERM.
    """
    from lwd.dashboard import event_files
    from lwd.store.process import stop_on_signals

    stop = stop_on_signals() if follow else None
    print(f"{event_files.export(plane.root / 'learner.jsonl', path, follow=stop)} reports: {path}")


@export_.command(name="wandb")
def export_wandb(
    path: Positional[Path],
    plane: Plane = PlaneConfig(),  # noqa: B008
) -> None:
    """Export the learner's metrics as an offline run of Weights & Biases; `wandb sync` sends it.

    For example:
        lwd export wandb runs/wandb --root runs/demo

    Args:
        path: Folder under which the run is written.
        plane: Which run.
    """
    from lwd.dashboard.wandb_run import export

    print(export(plane.root / "learner.jsonl", path))
