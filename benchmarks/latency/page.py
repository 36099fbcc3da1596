"""The page of the results, from what was measured so far."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.latency.plan import Scenario
from benchmarks.record import header

PAPER = """| the paper, 16 robots | episode to learner | | | 41 s | 148 s | | |
| the paper, 16 robots | model to actor | | | 38 s | 55 s | | |"""
INTRODUCTION = """\
Table VI of the paper beside this implementation. From an episode's last tick to the moment at
which the learner can sample it; from the moment at which a policy is published to the moment at
which a robot has fetched and verified it. It is used from the robot's next episode on, which
comes on top and depends on how long episodes are.

"One host": everything on this machine, SQLite, a local folder. "Link": the robots are in a
network namespace of their own, behind a link of 100 Mbit/s, 20 ms each way, that drops 1 % of
the packets each way; real packets, so that TCP pays for the loss; the store is an S3 gateway.
BBR and Reno are the congestion controls of both ends; CUBIC behaves as Reno at such a loss. All
16 robots share the link: 20 MB each a minute are 43 Mbit/s. A single connection over it gets 3
Mbit/s with Reno and 69 with BBR. "Expert": a policy of 860 MB for one robot, the first version
whole, the next as its difference ({share} of the whole); its numbers are synthetic, chosen so
that the share is that of [trained policies](weights_delta.md).

"Load" is the load average of the two cores before a scenario began: other work took most of the
machine.
"""


def page(scenarios: Sequence[Scenario], kept: Mapping[str, Any], command: str) -> str:
    """Markdown."""
    measured = [scenario for scenario in scenarios if scenario.name in kept]
    lines = [line for s in measured for line in rows(s, **kept[s.name])]
    experts = [line for s in measured if s.robots == 1 for line in _expert(s, kept[s.name])]
    return (
        f"# Latency\n\n{header(command)}\n{INTRODUCTION.format(share='0.28')}\n"
        "| scenario | path | size | n | P50 | P99 | slowest | load |\n"
        "|---|---|---|---|---|---|---|---|\n"
        + "\n".join([PAPER, *lines])
        + "\n\nWhat the time of the large policy consists of:\n\n"
        "| scenario | version | making, storing | over the link | robot's CPU | until verified |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(experts) + "\n"
    )


def rows(scenario: Scenario, found: Mapping[str, Sequence[float]], load: float) -> list[str]:
    """Lines of the table."""
    lines = []
    sizes = {"episode to learner": scenario.episode_bytes, "model to actor": scenario.policy_bytes}
    if scenario.robots == 1:
        del sizes["episode to learner"]
    for path, size in sizes.items():
        ordered = sorted(found[path])
        p99 = ordered[round(0.99 * (len(ordered) - 1))]
        lines.append(
            f"| {scenario.name} | {path} | {size / 1e6:.3g} MB | {len(ordered)} | "
            f"{statistics.median(ordered):.2f} s | {p99:.2f} s | {ordered[-1]:.2f} s | {load:.0f} |"
        )
    return lines


def _expert(scenario: Scenario, kept: Mapping[str, Any]) -> list[str]:
    found = kept["found"]
    names = ("publishing", "fetching", "CPU of fetching", "model to actor")
    return [
        f"| {scenario.name} | {'whole' if version == 0 else 'difference'} | "
        + " | ".join(f"{seconds:.1f} s" for seconds in times)
        + " |"
        for version, times in enumerate(zip(*(found[name] for name in names), strict=True))
    ]
