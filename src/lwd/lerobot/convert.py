"""One episode of a LeRobotDataset to one of ours.

Ours has a state after the last action and theirs has not: the last state is said twice, without a
picture, unless the dataset has our own column `final_state`. The id is made of what was recorded
(numbers, instruction, pictures), so that the same recording is the same episode wherever it lies,
and however it is labelled or compressed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg

from lwd.config.lerobot import ImportConfig
from lwd.episode.check import Limits
from lwd.episode.types import ENDS, Episode, Header, Kind, Outcome, Source
from lwd.errors import EpisodeError
from lwd.lerobot.columns import Columns, plain
from lwd.lerobot.episodes import About
from lwd.lerobot.layout import Info
from lwd.lerobot.rows import Rows
from lwd.lerobot.video import decode_picture, luma

WRONG_RATE = 0.01
"""Share by which the frames' distance may differ from 1 / fps."""
_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is kept of one camera."""

    kept: tuple[bytes | None, ...]
    """[rows] JPEG, None where none is kept."""
    digest: bytes
    """sha256 of all pictures, kept or not."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The numbers of one episode, checked."""

    rows: Rows
    about: About
    instruction: str
    time: np.ndarray
    """[rows] float64, seconds since the first frame."""
    state: np.ndarray
    """[rows, state] float32."""
    action: np.ndarray
    """[rows, action] float32."""

    def digest(self) -> bytes:
        """sha256 of the numbers and the instruction."""
        found = hashlib.sha256(self.instruction.encode())
        for array in (self.time.astype(np.float32), self.state, self.action):
            found.update(repr(array.shape).encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.digest()


def recorded(
    info: Info, rows: Rows, about: About, columns: Columns, tasks: Mapping[int, str]
) -> Recorded:
    """Numbers of an episode; EpisodeError names what is wrong with them."""
    count = rows.table.num_rows
    if about.length != count:
        raise EpisodeError(f"meta says {about.length} frames, the data has {count}.")
    frames = rows.scalars("frame_index")
    if not np.array_equal(frames, np.arange(count)):
        first = int(np.flatnonzero(frames != np.arange(count))[0])
        raise EpisodeError(f"frame {first} is missing or doubled: frame_index is {frames[first]}.")
    time = rows.scalars("timestamp").astype(np.float64)
    _check_rate(time, info.fps)
    state = np.concatenate([rows.numbers(name) for name in columns.state], axis=1)
    return Recorded(
        rows=rows,
        about=about,
        instruction=_instruction(rows, about, tasks),
        time=time,
        state=state.astype(np.float32),
        action=rows.numbers(columns.action).astype(np.float32),
    )


def from_video(frames: Iterator[Any], rows: int, *, every: int, quality: int) -> Pictures:
    """Pictures of decoded frames; every so many are compressed."""
    digest, kept, size = hashlib.sha256(), [], 0
    for number, frame in enumerate(frames):
        digest.update(luma(frame))
        data = None
        if number % every == 0:
            data = simplejpeg.encode_jpeg(frame.to_ndarray(format="rgb24"), quality=quality)
        kept.append(data)
        size = _bounded(size, data)
    if len(kept) != rows:
        raise EpisodeError(f"{len(kept)} pictures for {rows} frames.")
    return Pictures(kept=tuple(kept), digest=digest.digest())


def from_table(pictures: Iterator[bytes], *, every: int, quality: int) -> Pictures:
    """Pictures that lie in the table; JPEG stays as it is."""
    digest, kept, size = hashlib.sha256(), [], 0
    for number, data in enumerate(pictures):
        digest.update(data)
        if number % every:
            kept.append(None)
            continue
        if not data.startswith(b"\xff\xd8\xff"):
            data = simplejpeg.encode_jpeg(decode_picture(data), quality=quality)
        kept.append(data)
        size = _bounded(size, data)
    return Pictures(kept=tuple(kept), digest=digest.digest())


def episode(
    info: Info,
    found: Recorded,
    pictures: Mapping[str, Pictures],
    columns: Columns,
    config: ImportConfig,
    success: bool | None,
) -> Episode:
    """Our episode; `success` is what a sidecar says, None if nothing."""
    outcome = _outcome(found, columns, config, success)
    human = _flags(found.rows, columns.intervention)
    kind = _kind(found, columns, config, outcome)
    acted = {Kind.DEMO: Source.EXPERT, Kind.PLAY: Source.PLAY}.get(kind, Source.POLICY)
    source = np.where(human, np.uint8(Source.HUMAN), np.uint8(acted)).astype(np.uint8)
    wanted = np.where((source == Source.POLICY)[:, None], found.action, np.nan)
    header = _header(info, found, pictures, config, kind, outcome)
    split = info.split_of(found.about.index)
    origin = f"imported from LeRobot {info.version}: {info.name}, episode {found.about.index}"
    events: list[tuple[str, ...]] = [()] * len(found.action)
    events[0] = (f"{origin}, split {split or 'none'}",)
    return Episode(
        header=header,
        time=header.started_at + np.append(found.time, found.time[-1] + 1 / info.fps),
        state=np.concatenate([found.state, _last_state(found)[None]]),
        action=found.action,
        action_policy=wanted.astype(np.float32),
        source=source,
        events=tuple(events),
        images={name: (*seen.kept, None) for name, seen in pictures.items()},
    )


def identity(found: Recorded, pictures: Mapping[str, Pictures]) -> str:
    """Id of an episode: the same for the same recording, whatever it is called here."""
    digest = hashlib.sha256(b"lerobot" + found.digest())
    for name in sorted(pictures):
        digest.update(pictures[name].digest)
    return digest.hexdigest()[:32]


def _check_rate(time: np.ndarray, fps: float) -> None:
    steps = np.diff(time)
    if not np.isfinite(time).all() or (steps <= 0).any():
        first = int(np.flatnonzero(~(steps > 0))[0]) if len(steps) else 0
        raise EpisodeError(f"timestamps do not increase after frame {first}.")
    if len(steps) and abs((typical := float(np.median(steps))) * fps - 1) > WRONG_RATE:
        raise EpisodeError(
            f"frames are {typical:.4f} s apart, which is {1 / typical:.2f} Hz; "
            f"info.json says {fps:g}."
        )


def _instruction(rows: Rows, about: About, tasks: Mapping[int, str]) -> str:
    numbers = rows.scalars("task_index")
    values, counts = np.unique(numbers, return_counts=True)
    text = tasks.get(int(values[counts.argmax()]), "")
    return text or (about.tasks[0] if about.tasks else "")


def _flags(rows: Rows, column: str) -> np.ndarray:
    """[rows] bool of a column; all false without one."""
    if not column:
        return np.zeros(rows.table.num_rows, bool)
    return rows.scalars(column) > 0


def _outcome(
    found: Recorded, columns: Columns, config: ImportConfig, success: bool | None
) -> Outcome:
    extra = found.about.extra
    if extra.get("outcome") in list(Outcome):
        return Outcome(extra["outcome"])
    given = _success(found, columns, success)
    if given is None:
        if config.unlabelled == "skip":
            raise EpisodeError("nothing says whether it succeeded, and --unlabelled is skip.")
        return Outcome(config.unlabelled)
    if given:
        return Outcome.SUCCESS
    cut = columns.truncated and _flags(found.rows, columns.truncated)[-1]
    return Outcome.TIMEOUT if cut else Outcome.FAILURE


def _success(found: Recorded, columns: Columns, sidecar: bool | None) -> bool | None:
    if isinstance(said := found.about.extra.get("success"), bool):
        return said
    if columns.success:
        return bool(_flags(found.rows, columns.success)[-1])
    if sidecar is None and columns.reward:
        return bool(_flags(found.rows, columns.reward)[-1])
    return sidecar


def labelled(found: Recorded, columns: Columns, sidecar: bool | None) -> bool:
    """Whether anything says how the episode ended."""
    said = found.about.extra.get("outcome") in list(Outcome)
    return said or _success(found, columns, sidecar) is not None


def _kind(found: Recorded, columns: Columns, config: ImportConfig, outcome: Outcome) -> Kind:
    if config.kind != "auto":
        return Kind(config.kind)
    if (said := found.about.extra.get("kind")) in list(Kind):
        return Kind(said)
    if columns.intervention or _policy_version(found.about):
        return Kind.ROLLOUT
    return Kind.DEMO if outcome is Outcome.SUCCESS else Kind.PLAY


def _policy_version(about: About) -> int:
    version = about.extra.get("policy_version")
    return version if type(version) is int and 0 <= version < 2**31 else 0


def _last_state(found: Recorded) -> np.ndarray:
    """[state] after the last action: as recorded by us, or else the last one seen."""
    given = found.about.extra.get("final_state")
    if isinstance(given, list) and len(given) == found.state.shape[1]:
        return np.asarray(given, np.float32)
    return found.state[-1]


def _header(
    info: Info,
    found: Recorded,
    pictures: Mapping[str, Pictures],
    config: ImportConfig,
    kind: Kind,
    outcome: Outcome,
) -> Header:
    extra = found.about.extra
    instruction = found.instruction.strip() or config.instruction or config.task
    if not instruction:
        raise EpisodeError("it has no instruction; give one with --instruction.")
    began = extra.get("started_at")
    started_at = float(began) if isinstance(began, float) and began >= 0 else info.modified_at
    split = info.split_of(found.about.index)
    return Header(
        episode_id=identity(found, pictures),
        robot=plain(config.robot or str(extra.get("robot_id") or info.robot_type), "lerobot"),
        task=plain(config.task or str(extra.get("task") or instruction.lower()), "task"),
        instruction=instruction[: _LIMITS.text],
        kind=kind,
        policy_version=_policy_version(found.about),
        rate_hz=info.fps,
        horizon=config.horizon or max(1, round(info.fps)),
        seed=0,
        outcome=outcome,
        terminated=outcome in ENDS,
        truncated=outcome not in ENDS,
        started_at=started_at,
        ended_at=started_at + float(found.time[-1]) + 1 / info.fps,
        held_out=extra.get("held_out") is True or split not in ("", "train"),
    )


def _bounded(size: int, data: bytes | None) -> int:
    size += len(data or b"")
    if size > _LIMITS.bytes:
        raise EpisodeError(
            f"its pictures take more than {_LIMITS.bytes} bytes; keep fewer with --image-every."
        )
    return size
