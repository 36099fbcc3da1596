"""The plan of a storm is a pure function of its seed, and gives everybody a share."""

import subprocess
import sys
from collections import Counter

from lwd.chaos.inject import weather
from lwd.chaos.links import Weather
from lwd.chaos.plan import LARGEST_SKEW_S, LINK, LONGEST_S, PROCESS, Kind, Targets, plan, skew_s

TARGETS = Targets(
    processes=["queue", "service", "edge", "queue/child"],
    writers=["edge"],
    clocks=["service"],
    links=["queue", "service"],
    robots=["chaos-0", "chaos-1"],
    radios=["radio"],
)
ALLOWED = {
    **{kind: [""] for kind in Kind},
    **dict.fromkeys((Kind.KILL, Kind.PAUSE), TARGETS.processes),
    **dict.fromkeys(LINK, TARGETS.links),
    Kind.FILL: TARGETS.writers,
    Kind.SKEW: TARGETS.clocks,
    Kind.TEAR: TARGETS.robots,
    Kind.LOSSY: TARGETS.radios,
}


def test_the_same_seed_gives_the_same_plan_in_every_process():
    here = plan(7, TARGETS, kills=20, faults=40, seconds=30.0)
    assert plan(7, TARGETS, kills=20, faults=40, seconds=30.0) == here
    assert plan(8, TARGETS, kills=20, faults=40, seconds=30.0) != here
    code = (
        "from lwd.chaos.plan import Targets, plan\n"
        f"print(plan(7, {TARGETS!r}, kills=20, faults=40, seconds=30.0))"
    )
    command = [sys.executable, "-c", code]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == repr(here)


def test_every_kind_and_every_victim_gets_its_share_within_the_time():
    faults = plan(1, TARGETS, kills=20, faults=150, seconds=30.0)
    kinds = Counter(fault.kind for fault in faults)
    assert kinds.pop(Kind.KILL) == 20
    assert set(kinds.values()) == {10}
    assert kinds.keys() | {Kind.KILL} == set(Kind)
    killed = Counter(fault.target for fault in faults if fault.kind is Kind.KILL)
    assert killed == dict.fromkeys(TARGETS.processes, 5)
    for fault in faults:
        assert fault.target in ALLOWED[fault.kind]
        assert 0 <= fault.lasts_s <= LONGEST_S.get(fault.kind, 0.0)
    moments = [fault.at_s for fault in faults]
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] <= 30.0


def test_kinds_without_victims_are_left_out():
    nobody = Targets(processes=["edge"], writers=[], clocks=[], links=[], robots=[])
    kinds = {fault.kind for fault in plan(1, nobody, kills=1, faults=50, seconds=1.0)}
    assert not kinds & {Kind.FILL, Kind.SKEW, *LINK, Kind.TEAR, Kind.LOSSY}
    assert kinds & set(PROCESS) == {Kind.KILL, Kind.PAUSE}


def test_clocks_go_wrong_both_ways_and_are_set_right_again():
    skews = [
        skew_s(fault)
        for fault in plan(1, TARGETS, kills=0, faults=600, seconds=1.0)
        if fault.kind is Kind.SKEW
    ]
    assert -LARGEST_SKEW_S <= min(skews) < 0 < max(skews) <= LARGEST_SKEW_S
    assert 0.0 in skews


def test_weather_follows_the_kind():
    by_kind = {f.kind: weather(f) for f in plan(1, TARGETS, kills=0, faults=130, seconds=1.0)}
    assert by_kind[Kind.CUT] == Weather(cut=True)
    assert by_kind[Kind.STALL] == Weather(stalled=True)
    assert by_kind[Kind.SLOW].delay_s > 0
    assert by_kind[Kind.SLOW].bytes_per_s > 0
