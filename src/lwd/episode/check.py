"""The invariants of an episode and the bounds of what is accepted from a robot."""

import math
import re
from dataclasses import dataclass

import numpy as np

from lwd.config.require import NAME
from lwd.episode.types import ENDS, Episode, Header, Source
from lwd.errors import EpisodeError

_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"(?:[0-9a-f]{64})?")
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest values accepted in a payload; far above what a robot makes in an honest episode."""

    bytes: int = 1 << 30
    """Whole payload."""
    ticks: int = 200_000
    """Almost two hours at 30 Hz."""
    state: int = 4096
    """Numbers in a state vector."""
    action: int = 256
    """Numbers in an action vector."""
    magnitude: float = 1e6
    """Absolute value of any number in state and action (rad, m)."""
    cameras: int = 16
    image_bytes: int = 4 << 20
    """One JPEG."""
    events_per_tick: int = 64
    text: int = 1000
    """Characters of an instruction or an event."""


def check(episode: Episode, limits: Limits) -> None:
    """EpisodeError that names the first rule which the episode breaks."""
    check_header(episode.header, limits)
    _check_shapes(episode, limits)
    _check_numbers(episode, limits)
    _check_events(episode, limits)
    _check_images(episode, limits)


def check_header(header: Header, limits: Limits) -> None:
    """EpisodeError that names the first rule which the header breaks."""
    _require(bool(_ID.fullmatch(header.episode_id)), f"episode_id is {header.episode_id[:80]!r}")
    for name in ("robot", "task"):
        value = getattr(header, name)
        _require(bool(NAME.fullmatch(value)), f"{name} is {value[:80]!r}, not a plain name")
    for name in ("normalisation_hash", "tokenizer_hash"):
        _require(bool(_HASH.fullmatch(getattr(header, name))), f"{name} is not a sha256")
    _require(
        0 < len(header.instruction) <= limits.text,
        f"instruction has {len(header.instruction)} characters; expected 1 to {limits.text}",
    )
    _require(0 <= header.policy_version < 2**31, f"policy_version is {header.policy_version}")
    _require(0 < header.rate_hz <= 10_000, f"rate_hz is {header.rate_hz}")
    _require(0 < header.horizon <= 10_000, f"horizon is {header.horizon}")
    _require(-(2**63) <= header.seed < 2**63, f"seed is {header.seed}")
    _check_times(header.started_at, header.ended_at)
    _check_end(header)
    _require(len(header.substeps) <= 1000, f"{len(header.substeps)} substeps")
    _require(all(0 <= s <= 1 for s in header.substeps), "a substep score is outside [0, 1]")


def _require(condition: bool | np.bool_, broken: str) -> None:
    if not condition:
        raise EpisodeError(f"{broken}.")


def _check_times(started_at: float, ended_at: float) -> None:
    valid = math.isfinite(started_at) and math.isfinite(ended_at) and 0 <= started_at <= ended_at
    _require(valid, f"started_at {started_at} and ended_at {ended_at} are not in order")


def _check_end(header: Header) -> None:
    """Success and failure terminate; everything else truncates."""
    ended = header.outcome in ENDS
    _require(
        (header.terminated, header.truncated) == (ended, not ended),
        f"outcome {header.outcome} with terminated={header.terminated} "
        f"and truncated={header.truncated}; expected {ended} and {not ended}",
    )


def _check_shapes(episode: Episode, limits: Limits) -> None:
    ticks = episode.ticks
    _require(1 <= ticks <= limits.ticks, f"{ticks} ticks; expected 1 to {limits.ticks}")
    _require(episode.state.ndim == episode.action.ndim == 2, "state and action are not matrices")
    state, action = episode.state.shape[1], episode.action.shape[1]
    _require(1 <= state <= limits.state, f"state has {state} numbers, not 1 to {limits.state}")
    _require(1 <= action <= limits.action, f"action has {action} numbers, not 1 to {limits.action}")
    expected = {
        "time": (ticks + 1,),
        "state": (ticks + 1, state),
        "action": (ticks, action),
        "action_policy": (ticks, action),
        "source": (ticks,),
    }
    for name, shape in expected.items():
        given = getattr(episode, name).shape
        _require(given == shape, f"{name} has shape {given}; expected {shape} for {ticks} ticks")


def _check_numbers(episode: Episode, limits: Limits) -> None:
    for name in ("state", "action"):
        bad = ~(np.abs(getattr(episode, name)) <= limits.magnitude).all(axis=1)
        _require(not bad.any(), f"{name} is not finite or above {limits.magnitude} {_first(bad)}")
    asked = ~np.isnan(episode.action_policy).all(axis=1)
    sane = (np.abs(episode.action_policy) <= limits.magnitude).all(axis=1)
    bad = np.logical_and(asked, ~sane)
    _require(not bad.any(), f"action_policy is neither finite nor all NaN {_first(bad)}")
    time = episode.time
    _require(np.isfinite(time).all() and time[0] >= 0, "time is not finite or negative")
    late = np.append(False, np.diff(time) <= 0)
    _require(not late.any(), f"time does not increase {_first(late)}")
    odd = ~np.isin(episode.source, [int(member) for member in Source])
    _require(not odd.any(), f"source is none of {[int(m) for m in Source]} {_first(odd)}")


def _first(bad: np.ndarray) -> str:
    return f"at tick {int(bad.argmax())}"


def _check_events(episode: Episode, limits: Limits) -> None:
    _require(len(episode.events) == episode.ticks, f"events of {len(episode.events)} ticks")
    for tick, names in enumerate(episode.events):
        if not names:
            continue
        _require(len(names) <= limits.events_per_tick, f"{len(names)} events at tick {tick}")
        _require(all(len(n) <= limits.text for n in names), f"an event is too long at tick {tick}")


def _check_images(episode: Episode, limits: Limits) -> None:
    _require(len(episode.images) <= limits.cameras, f"{len(episode.images)} cameras")
    for name, frames in episode.images.items():
        _require(bool(NAME.fullmatch(name)), f"camera {name[:80]!r} is not a plain name")
        _require(len(frames) == episode.ticks + 1, f"camera {name} has {len(frames)} frames")
        for tick, frame in enumerate(frames):
            if frame is None:
                continue
            size = len(frame)
            _require(size <= limits.image_bytes, f"image/{name} has {size} bytes at tick {tick}")
            _require(frame[:3] == _JPEG, f"image/{name} is not a JPEG at tick {tick}")
