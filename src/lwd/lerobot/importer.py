"""A whole LeRobotDataset to episodes: one after the other, resumed where it was killed.

An episode that cannot be used is reported with the reason and the others go on. Where the episodes
go is said by a `Destination`: the command gives a spool and an uploader, as a robot has them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from lwd.config.lerobot import ImportConfig
from lwd.episode.payload import encode
from lwd.episode.types import Episode
from lwd.errors import ConfigError, EpisodeError
from lwd.lerobot.cameras import Cameras
from lwd.lerobot.columns import Columns, choose
from lwd.lerobot.convert import Recorded, episode, labelled, recorded
from lwd.lerobot.episodes import About, read_episodes, read_tasks
from lwd.lerobot.journal import Journal
from lwd.lerobot.layout import Info, read_info
from lwd.lerobot.rows import Rows, stream


@runtime_checkable
class Destination(Protocol):
    """Where imported episodes go."""

    def has(self, episode_id: str) -> bool:
        """Whether the episode is there already."""
        ...

    def take(self, episode_id: str, payload: bytes) -> None:
        """Keep a payload for good; harmless to repeat. EpisodeError: it will never be accepted."""
        ...


class Problem(NamedTuple):
    """What could not be used."""

    episode: int | None
    """Number in the dataset; None for a part of the dataset."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What has become of a dataset so far."""

    name: str
    expected: int = 0
    """Episodes that the dataset claims to have."""
    imported: int = 0
    already: int = 0
    """Episodes that were there before."""
    frames: int = 0
    """Of the imported episodes."""
    payload_bytes: int = 0
    unlabelled: int = 0
    """Imported episodes that did not say how they ended."""
    left_out: tuple[str, ...] = ()
    """Features of the dataset that nothing was made of."""
    skipped: int = 0
    """Episodes that could not be used."""
    problems: tuple[Problem, ...] = ()
    """At the end: what could not be used, and why."""


Look = Callable[[Report], None]


class _Import:
    """One run over one dataset."""

    def __init__(
        self, info: Info, config: ImportConfig, destination: Destination, journal: Journal
    ) -> None:
        self._info, self._config = info, config
        self._destination, self._journal = destination, journal
        self._problems: list[Problem] = []
        self._success = _labels(config.labels)
        self._columns = choose(
            info, state=config.state, action=config.action, cameras=config.cameras
        )
        self._tasks = read_tasks(info, self._complain)
        self._about = read_episodes(info, self._complain)
        expected = max(len(self._about), info.totals.get("episodes", 0))
        self.report = Report(name=info.name, expected=expected, left_out=self._columns.left_out)

    def run(self, look: Look) -> Report:
        seen: set[int] = set()
        with Cameras(self._info.root, self._columns.cameras, self._config) as cameras:
            for rows in stream(self._info, self._columns.read, self._complain):
                if rows.episode in seen:
                    self._skip(rows.episode, f"its rows come again in {rows.path.name}.")
                else:
                    seen.add(rows.episode)
                    self._one(rows, cameras)
                look(self.report)
        for index in sorted(set(range(self.report.expected)) | set(self._about)):
            if index not in seen:
                self._skip(index, "its rows are in no file that can be read.")
        return replace(self.report, problems=tuple(self._problems))

    def _one(self, rows: Rows, cameras: Cameras) -> None:
        try:
            about = self._about.get(rows.episode)
            if about is None:
                raise EpisodeError("meta/episodes does not have it.")
            found = recorded(self._info, rows, about, self._columns, self._tasks)
            key = _key(found, self._columns)
            if key in self._journal.done or self._ours(about):
                self.report = replace(self.report, already=self.report.already + 1)
            else:
                self._bring(found, cameras, key)
        except EpisodeError as error:
            self._skip(rows.episode, str(error))

    def _bring(self, found: Recorded, cameras: Cameras, key: str) -> None:
        sidecar = self._success.get(found.about.index)
        made = episode(self._info, found, cameras.of(found), self._columns, self._config, sidecar)
        number = made.header.episode_id
        if new := not self._destination.has(number):
            payload = encode(made)
            made = replace(made, images={})  # the payload has them; two copies are too many
            self._destination.take(number, payload)
            self._count(made, len(payload), labelled(found, self._columns, sidecar))
        else:
            self.report = replace(self.report, already=self.report.already + 1)
        about = {"episode": found.about.index, "dataset": str(self._info.root.resolve())}
        split = self._info.split_of(found.about.index)
        self._journal.append(key, number, {**about, "split": split, "new": new})

    def _count(self, made: Episode, size: int, said: bool) -> None:
        now = self.report
        self.report = replace(
            now,
            imported=now.imported + 1,
            frames=now.frames + made.ticks,
            payload_bytes=now.payload_bytes + size,
            unlabelled=now.unlabelled + (not said),
        )

    def _ours(self, about: About) -> bool:
        """Whether the dataset was exported from where it is now to go."""
        exported = about.extra.get("episode_id")
        return isinstance(exported, str) and self._destination.has(exported)

    def _complain(self, reason: str) -> None:
        self._problems.append(Problem(None, reason))

    def _skip(self, index: int, reason: str) -> None:
        self._problems.append(Problem(index, reason))
        self.report = replace(self.report, skipped=self.report.skipped + 1)


def import_dataset(
    root: Path,
    config: ImportConfig,
    destination: Destination,
    journal: Path,
    look: Look = lambda report: None,
) -> Report:
    """Bring every usable episode of a dataset to its destination, and say what became of each.

    `journal` is a folder that remembers what is done. ConfigError if the folder holds no dataset,
    or its columns cannot be understood; errors of the destination that are worth another try
    (ServiceError, IntegrityError) end the run, and the next one goes on there.
    """
    info = read_info(root)
    with Journal(journal) as done:
        return _Import(info, config, destination, done).run(look)


def journal_folder(root: Path, dataset: Path) -> Path:
    """Where a run under `root` remembers the import of a dataset."""
    path = dataset.resolve()
    return root / "imports" / f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _key(found: Recorded, columns: Columns) -> str:
    """What an episode is recognised by before its pictures are looked at."""
    digest = hashlib.sha256(found.digest())
    for feature in columns.cameras.values():
        segment = found.about.videos.get(feature.name)
        if segment is not None and segment.path.exists():
            size = segment.path.stat().st_size
            digest.update(f"{feature.name} {segment.start_s} {size}".encode())
    return f"{found.about.index}-{digest.hexdigest()[:32]}"


def _labels(path: Path | None) -> Mapping[int, bool]:
    """Episode to whether it succeeded, from JSON lines; ConfigError names the bad line."""
    found: dict[int, bool] = {}
    if path is None:
        return found
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"Labels {path} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            index, success = entry["episode_index"], entry["success"]
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_label(path, number) from error
        if type(index) is not int or type(success) is not bool:
            raise _bad_label(path, number)
        found[index] = success
    return found


def _bad_label(path: Path, line: int) -> ConfigError:
    return ConfigError(
        f'{path}, line {line}: expected {{"episode_index": 3, "success": true}} or false.'
    )
