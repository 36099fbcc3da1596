"""Which columns of a LeRobotDataset mean what: state, action, cameras, success, who acted."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwd.errors import ConfigError
from lwd.lerobot.layout import AUTOMATIC, Feature, Info

STATES = ("observation.state", "state", "observation/state")
ACTIONS = ("action", "actions")
INTERVENTIONS = (
    "intervention",
    "complementary_info.is_intervention",
    "is_intervention",
    "intervene_flag",
)
"""Lerobot's dagger roll-outs, HIL-SERL, its older form, RLinf."""
SUCCESSES = ("next.success", "is_success", "success")
"""LeRobot, RLinf, openpi's examples; the last frame's value counts."""
REWARD = "next.reward"
TRUNCATIONS = ("next.truncated", "truncated")
NAME = 64
"""Longest plain name."""
_NUMBER = re.compile(r"float\d+|u?int\d+|bool")
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The features of one dataset that are read."""

    state: tuple[str, ...]
    """Laid end to end they are the state."""
    action: str
    cameras: Mapping[str, Feature]
    """Our name of each camera to its feature."""
    intervention: str = ""
    success: str = ""
    reward: str = ""
    truncated: str = ""
    left_out: tuple[str, ...] = ()
    """Features that nothing is made of."""

    @property
    def read(self) -> list[str]:
        """Columns of the table that are needed, without the videos."""
        pictures = [f.name for f in self.cameras.values() if f.dtype == "image"]
        labels = [n for n in (self.intervention, self.success, self.reward, self.truncated) if n]
        return [*self.state, self.action, *labels, *pictures]


def choose(
    info: Info, *, state: Sequence[str] = (), action: str = "", cameras: Sequence[str] = ()
) -> Columns:
    """Columns of a dataset by what was asked for, or by the names that everybody uses.

    ConfigError names what is missing, what there is, and the flag that chooses.
    """
    features = info.features
    for name in (*state, *([action] if action else []), *cameras):
        _there(info, name)
    states = tuple(state) or _states(features)
    if not states:
        raise _lacks(info, "state", "--state")
    chosen = action or next((n for n in ACTIONS if n in features), "")
    if not chosen:
        raise _lacks(info, "action", "--action")
    for name in (*states, chosen):
        _numeric(info, features[name])
    pictures = {n: f for n, f in features.items() if f.is_picture and not f.is_depth}
    pictures = {n: pictures[n] for n in cameras if n in pictures} if cameras else pictures
    found = Columns(
        state=states,
        action=chosen,
        cameras=_named(pictures),
        intervention=_first(features, INTERVENTIONS),
        success=_first(features, SUCCESSES),
        reward=_first(features, (REWARD,)),
        truncated=_first(features, TRUNCATIONS),
    )
    used = {*found.read, *AUTOMATIC, *pictures}
    left_out = tuple(name for name in features if name not in used)
    return Columns(**{**vars(found), "left_out": left_out})


def plain(text: str, otherwise: str) -> str:
    """A name as the catalog takes it, made of any text: 1 to 64 letters, digits, `.`, `_`, `-`.

    A longer one ends in a hash, so that two long texts stay two names.
    """
    name = _PLAIN.sub("_", text).strip("_.-")
    if len(name) > NAME:
        name = f"{name[: NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name or otherwise


def _states(features: Mapping[str, Feature]) -> tuple[str, ...]:
    for name in STATES:
        if name in features:
            return (name,)
    numbers = (n for n, f in features.items() if not f.is_picture and _NUMBER.fullmatch(f.dtype))
    return tuple(n for n in numbers if n.startswith("observation."))


def _named(pictures: Mapping[str, Feature]) -> dict[str, Feature]:
    """Cameras by the last part of their feature's name, or the whole one where parts coincide."""
    short = {name: plain(re.split(r"[./]", name)[-1], "camera") for name in pictures}
    taken = list(short.values())
    return {
        short[name] if taken.count(short[name]) == 1 else plain(name, "camera"): feature
        for name, feature in pictures.items()
    }


def _first(features: Mapping[str, Feature], names: Sequence[str]) -> str:
    return next((n for n in names if n in features and not features[n].is_picture), "")


def _there(info: Info, name: str) -> None:
    if name not in info.features:
        raise ConfigError(
            f"{info.root} has no feature {name!r}; it has {', '.join(info.features)}."
        )


def _numeric(info: Info, feature: Feature) -> None:
    if not _NUMBER.fullmatch(feature.dtype):
        raise ConfigError(
            f"{info.root}: feature {feature.name!r} is of type {feature.dtype}; numbers are needed."
        )


def _lacks(info: Info, what: str, flag: str) -> ConfigError:
    return ConfigError(
        f"{info.root} has no feature that is plainly the {what}; it has "
        f"{', '.join(info.features)}. Choose with {flag} NAME."
    )
