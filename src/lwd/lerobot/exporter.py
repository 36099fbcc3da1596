"""Episodes of a snapshot to a LeRobotDataset v3.0.

All episodes of a dataset have one rate, one size of state and action, and the same cameras: the
first usable one decides, and what differs is reported. Our last state, which LeRobot has no row
for, goes into the column `final_state` of meta/episodes, beside who made the episode and how it
ended.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from lwd.config.lerobot import ExportConfig
from lwd.episode.labels import Labels, relabelled
from lwd.episode.payload import decode
from lwd.episode.types import Episode, Outcome, Source
from lwd.errors import ConfigError, EpisodeError, IntegrityError
from lwd.lerobot.writer import DatasetWriter, Spec, Written
from lwd.store.catalog import Catalog
from lwd.store.rows import EpisodeRow

CAMERA = "observation.images."
_FILTERS = ("robot", "task", "kind", "outcome")

Member = tuple[EpisodeRow, Labels]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What has been exported so far."""

    expected: int = 0
    exported: int = 0
    frames: int = 0
    repeated: int = 0
    """Pictures that say the one before again, because none was kept."""
    problems: tuple[tuple[str, str], ...] = ()
    """Episode id and why it is not in the dataset."""


def members(catalog: Catalog, config: ExportConfig) -> list[Member]:
    """Episodes of a version of the data set as people have labelled them, held-out ones last.

    ConfigError if there is no such version, or nothing in it is wanted.
    """
    newest = catalog.snapshot_version()
    version = config.snapshot or newest
    if not 1 <= version <= newest:
        hint = "`lwd coordinator` makes versions of what was uploaded." if not newest else ""
        raise ConfigError(f"There is no version {version}; the newest is {newest}. {hint}".strip())
    last = {entry.row.episode_id: entry for entry in catalog.snapshot_log(version)}
    found = [(e.row, e.labels) for e in last.values() if e.present and not e.lost]
    wanted = {name: value for name in _FILTERS if (value := getattr(config, name))}
    found = [m for m in found if all(getattr(m[0], n) == v for n, v in wanted.items())]
    if not found:
        raise ConfigError(f"Version {version} has no episode with {wanted or 'anything'}.")
    return sorted(found, key=lambda member: member[0].held_out)


def export_dataset(
    chosen: Sequence[Member],
    fetch: Callable[[EpisodeRow], bytes],
    target: Path,
    config: ExportConfig,
    look: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Write the members to a new dataset at `target`; what cannot be used is reported.

    `fetch` gives the payload of a row. ConfigError if the target exists or nothing is usable;
    until the end there is nothing at `target`.
    """
    report, writer, spec = Report(expected=len(chosen)), None, None
    try:
        for row, labels in chosen:
            try:
                episode = relabelled(decode(fetch(row)), labels)
                own = _spec(episode, config)
                spec = spec or own
                _same(own, spec)
                missing = _missing(episode)
                if missing and config.images == "whole":
                    raise EpisodeError(f"{missing} pictures were not kept.")
            except (EpisodeError, IntegrityError) as error:
                problem = (row.episode_id, str(error))
                report = replace(report, problems=(*report.problems, problem))
                continue
            writer = writer or DatasetWriter(target, spec)
            writer.add(_written(episode, spec), split="test" if row.held_out else "train")
            report = replace(
                report,
                exported=report.exported + 1,
                frames=report.frames + episode.ticks,
                repeated=report.repeated + (missing if spec.cameras else 0),
            )
            look(report)
        if writer is None:
            raise ConfigError(f"No episode can be exported: {report.problems[0][1]}")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    return report


def _spec(episode: Episode, config: ExportConfig) -> Spec:
    """What the dataset has to be for this episode to be in it."""
    rate = episode.header.rate_hz
    if rate != int(rate):
        raise EpisodeError(f"its rate is {rate} Hz; LeRobot knows whole numbers only.")
    cameras = {} if config.images == "none" else _cameras(episode)
    return Spec(
        fps=int(rate),
        columns={
            "observation.state": ("float32", episode.state.shape[1]),
            "action": ("float32", episode.action.shape[1]),
            "next.reward": ("float32", 1),
            "next.done": ("bool", 1),
            "next.success": ("bool", 1),
            "intervention": ("bool", 1),
        },
        cameras=cameras,
        robot_type=config.robot_type,
        crf=config.crf,
        gop=config.gop,
    )


def _cameras(episode: Episode) -> dict[str, tuple[int, int]]:
    """Feature to height and width; a camera of which no picture was kept is none."""
    found = {}
    for name in sorted(episode.images):
        data = next((seen for seen in episode.images[name][:-1] if seen), None)
        if data is not None:
            found[CAMERA + name] = _decoded(data).shape[:2]
    return found


def _same(own: Spec, common: Spec) -> None:
    """EpisodeError if an episode does not fit into the dataset."""
    for what in ("fps", "columns", "cameras"):
        given, expected = getattr(own, what), getattr(common, what)
        if given != expected:
            raise EpisodeError(
                f"its {what} are {given}, those of the dataset {expected}; export it apart, "
                "with --robot or --task."
            )


def _missing(episode: Episode) -> int:
    return sum(seen is None for frames in episode.images.values() for seen in frames[:-1])


def _written(episode: Episode, spec: Spec) -> Written:
    header, ticks = episode.header, episode.ticks
    last = np.arange(ticks) == ticks - 1
    return Written(
        task=header.instruction,
        columns={
            "observation.state": episode.state[:-1],
            "action": episode.action,
            "next.reward": episode.reward[:, None],
            "next.done": last[:, None],
            "next.success": (last & (header.outcome is Outcome.SUCCESS))[:, None],
            "intervention": (episode.source == Source.HUMAN)[:, None],
        },
        pictures={
            key: _pictures(episode.images[key.removeprefix(CAMERA)][:-1], size)
            for key, size in spec.cameras.items()
        },
        extra=_extra(episode),
    )


def _extra(episode: Episode) -> Mapping[str, Any]:
    """Our columns of meta/episodes."""
    header = episode.header
    return {
        "success": header.outcome is Outcome.SUCCESS,
        "policy_version": header.policy_version,
        "robot_id": header.robot,
        "episode_id": header.episode_id,
        "task": header.task,
        "kind": str(header.kind),
        "outcome": str(header.outcome),
        "held_out": header.held_out,
        "started_at": header.started_at,
        "final_state": episode.state[-1].tolist(),
    }


def _pictures(frames: Iterable[bytes | None], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A picture for each frame: the last one that was kept, or before it the first one."""
    kept = list(frames)
    shown = _decoded(next(data for data in kept if data))
    for data in kept:
        if data is not None:
            shown = _decoded(data)
        if shown.shape[:2] != size:
            raise EpisodeError(f"a picture is {shown.shape[:2]}, the first one {size}.")
        yield shown


def _decoded(data: bytes) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise EpisodeError(f"a picture is no whole JPEG: {error}.") from error
