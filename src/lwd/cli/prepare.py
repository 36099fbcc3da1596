"""Commands before a policy is trained: statistics of the data, memory of the model."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from lwd.cli.flags import AsJson, Plane, Rate
from lwd.config import COMPACT, PlaneConfig, control
from lwd.config.machine import Machine
from lwd.config.require import require
from lwd.errors import ConfigError, PayloadError

if TYPE_CHECKING:
    from lwd.episode.types import Episode
    from lwd.learner.plan import Plan
    from lwd.models.inputs.format import InputFormat
    from lwd.models.inputs.measure import Measured
    from lwd.models.inputs.review import Finding

Where = Annotated[Machine, arg(name="")]
Seeing = Literal["tiny", "small", "pi05"]

normstats = SubcommandApp()


@normstats.command
def compute(  # noqa: PLR0913
    out: Positional[Path],
    plane: Plane = PlaneConfig(),  # noqa: B008
    *,
    folder: Path | None = None,
    snapshot: int | None = None,
    kind: tuple[str, ...] = ("demo",),
    preset: Seeing = "pi05",
    horizon: int = COMPACT.horizon,
    inputs: Path | None = None,
    absolute: bool = False,
    as_json: AsJson = False,
) -> None:
    """Compute norm stats as openpi keeps them, and say what is odd about the data.

    For example:
        lwd normstats compute norm_stats.json --root runs/demo
        lwd normstats compute norm_stats.json --folder payloads --horizon 30

    Args:
        out: norm_stats.json to write.
        plane: Catalog and object store of the episodes.
        folder: Take the payloads in this folder and those below instead.
        snapshot: Version of the data set; the newest if none is given.
        kind: Kinds of episodes: demo, play, rollout, online.
        preset: Preset whose inputs are normalised.
        horizon: Ticks in a chunk of the policy (`--control.horizon` of `lwd learner`).
        inputs: Input format (JSON) of another robot than the simulated one.
        absolute: Statistics of absolute targets, not of those relative to the joints.
        as_json: Print the findings as one JSON object.
    """
    from lwd.models.inputs.format import ABSOLUTE
    from lwd.models.inputs.measure import measure
    from lwd.models.inputs.norm_stats import write_norm_stats
    from lwd.models.inputs.review import review

    require(horizon > 0, f"horizon is {horizon}; it must be positive.")
    format_ = _format(preset, inputs)
    if absolute:
        format_ = replace(format_, anchors=(ABSOLUTE,) * len(format_.anchors))
    source = _files(folder, kind) if folder else _catalogued(plane, snapshot, kind)
    measured = measure(source, format_, horizon)
    write_norm_stats(out, measured.stats, about=_about(measured, format_, horizon))
    found = review(measured.stats, measured.spreads)
    if as_json:
        counts = {"episodes": measured.episodes, "ticks": measured.ticks}
        print(json.dumps({"file": str(out), **counts, "findings": [f._asdict() for f in found]}))
        return
    print(f"{out}: {measured.episodes} episodes, {measured.ticks} ticks")
    _show(found)


@normstats.command
def check(
    file: Positional[Path],
    preset: Seeing = "pi05",
    horizon: int | None = None,
    inputs: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Say what is odd about norm stats, and whether they are those that a policy needs.

    For example:
        lwd normstats check norm_stats.json --preset pi05

    Args:
        file: A norm_stats.json.
        preset: Preset whose inputs are normalised with it.
        horizon: Ticks in a chunk of the policy; not compared if none are given.
        inputs: Input format (JSON) of another robot than the simulated one.
        as_json: Print the findings as one JSON array.
    """
    from lwd.models.inputs.norm_stats import read_norm_stats
    from lwd.models.inputs.review import review

    format_ = _format(preset, inputs)
    stats = read_norm_stats(file, format_.state, horizon)
    for name, places in (("state", format_.state), ("actions", range(len(format_.anchors)))):
        if name in stats:
            stats[name].of_places(places, name)
    place = {at: n for n, at in enumerate(format_.state)}
    found = review(stats, anchored=[place.get(at, -1) for at in format_.anchors])
    _print(found, as_json)


@normstats.command
def compare(first: Positional[Path], second: Positional[Path], as_json: AsJson = False) -> None:
    """Say what changes if the second norm stats take the place of the first.

    For example:
        lwd normstats compare norm_stats.json other.json

    Args:
        first: A norm_stats.json, such as the one that a policy was trained with.
        second: Another, such as the one of a new robot.
        as_json: Print the findings as one JSON array.
    """
    from lwd.models.inputs.norm_stats import read_norm_stats
    from lwd.models.inputs.review import compare as differences

    _print(differences(read_norm_stats(first), read_norm_stats(second)), as_json)


def plan(  # noqa: PLR0913
    machine: Where = Machine(),  # noqa: B008
    preset: Seeing = "pi05",
    rate: Rate = "full",
    batch: int = 64,
    parts: int = 1,
    stage: Literal["sft", "offline", "online"] = "sft",
    reference: Literal["own_vlm", "shared_vlm"] = "own_vlm",
    as_json: AsJson = False,
) -> None:
    """Say how much memory a stage takes on each device and whether it fits, before it starts.

    The exit status is 0 only if it fits.

    For example:
        lwd plan --preset pi05 --devices 8 --batch 64
        lwd plan --devices 2 --parts 4 --fsdp 2 --stage online

    Args:
        machine: The devices.
        preset: Model preset.
        rate: Control preset: chunks of 10 or of 30 ticks.
        batch: Global batch size.
        parts: Parts of a batch whose gradients are taken one after another.
        stage: Stage of Algorithm 1; online the vision-language model is frozen.
        reference: Whether the reference policy keeps a vision-language model of its own.
        as_json: Print one JSON object.
    """
    from lwd.learner.plan import plan as plan_now

    planned = plan_now(
        preset, control(rate), machine, batch=batch, parts=parts, stage=stage, reference=reference
    )
    if as_json:
        sizes = {row.name: row.fixed + row.each * planned.samples for row in planned.rows}
        verdict = {"total": planned.total, "fits": planned.fits, "most_samples": planned.most}
        print(json.dumps({"bytes": sizes, "samples": planned.samples, **verdict}))
    else:
        _show_plan(planned)
    if not planned.fits:
        sys.exit(1)


def _show_plan(planned: "Plan") -> None:
    from rich.console import Console
    from rich.table import Table

    gib, machine = 2**30, planned.machine
    caption = f"{planned.samples} samples at a time; networks cut in {machine.shards} (--fsdp)"
    table = Table("on each device", "GiB", caption=caption)
    for row in planned.rows:
        table.add_row(row.name, f"{(row.fixed + row.each * planned.samples) / gib:.2f}")
    table.add_row("all of it", f"{planned.total / gib:.2f}", style="bold")
    Console().print(table)
    room = f"{planned.room / gib:.1f} of {machine.memory_gib:g} GiB may be used"
    if planned.fits:
        print(f"it fits: {room}; up to {planned.most} samples at a time would")
    elif planned.most:
        print(f"it does not fit: {room}; {planned.most} samples at a time do: see --parts")
    else:
        print(f"it does not fit: {room}, not even one sample; more devices: see --devices, --fsdp")


def _format(preset: str, file: Path | None) -> "InputFormat":
    from lwd.models.inputs.format import InputFormat

    if file is None:
        from lwd.models.presets import input_format

        return input_format(preset, COMPACT)
    if not file.is_file():
        raise ConfigError(f"{file} is not there; give the JSON file of an input format.")
    return InputFormat.from_json(file.read_text())


def _catalogued(
    plane: PlaneConfig, version: int | None, kinds: Sequence[str]
) -> "Iterator[Episode]":
    """Episodes of a snapshot, one after the other; ConfigError if there are none."""
    from lwd.episode.payload import decode
    from lwd.replay.order import trained_on
    from lwd.store.catalog import Catalog
    from lwd.store.objects import Objects, episode_key

    objects = Objects(plane.objects)
    with Catalog(plane.catalog) as catalog:
        newest = catalog.snapshot_version()
        if not 1 <= (version or newest) <= newest:
            raise ConfigError(f"Snapshot {version} is not there; give one of 1 to {newest}.")
        rows = catalog.snapshot_episodes(version or newest)
    rows = [row for row in rows if row.kind in kinds and trained_on(row)]
    if not rows:
        raise ConfigError(f"the snapshot has no episode of kind {', '.join(kinds)}; see --kind.")
    for row in rows:
        yield decode(objects.get(episode_key(row.sha256), sha256=row.sha256), images=False)


def _files(folder: Path, kinds: Sequence[str]) -> "Iterator[Episode]":
    """Episodes of the payloads below a folder; whatever else is there is passed over."""
    from lwd.episode.payload import decode

    found = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            episode = decode(path, images=False)
        except PayloadError:
            continue
        if str(episode.header.kind) in kinds and not episode.header.held_out:
            found += 1
            yield episode
    if not found:
        raise ConfigError(f"{folder} has no episode of kind {', '.join(kinds)}; see --kind.")


def _about(measured: "Measured", format_: "InputFormat", horizon: int) -> dict[str, object]:
    """What stands beside the statistics in their file: the horizon where they depend on it."""
    about: dict[str, object] = {
        "episodes": measured.episodes,
        "ticks": measured.ticks,
        "quantiles_of_every": measured.stride,
        "inputs": json.loads(format_.to_json()),
    }
    return about | ({"horizon": horizon} if format_.relative else {})


def _print(found: "Sequence[Finding]", as_json: bool) -> None:
    if as_json:
        print(json.dumps([finding._asdict() for finding in found]))
    else:
        _show(found)


def _show(found: "Sequence[Finding]") -> None:
    for quantity, dimension, kind, message in found:
        at = quantity if dimension is None else f"{quantity} {dimension}"
        print(f"{kind}: {at}: {message}")
    print(f"{len(found)} findings" if found else "nothing odd")
