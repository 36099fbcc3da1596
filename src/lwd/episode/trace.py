"""One trace for each episode, from the robot to the update that used it (OpenTelemetry).

An episode's id, 32 hex digits, is its trace id: no process has to hand a context to another.
Spans go to whatever SDK the process was started with (`opentelemetry-instrument lwd ...`); without
one, nothing of OpenTelemetry is even imported.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NANO = 1_000_000_000


def traced() -> bool:
    """Whether somebody may be listening: an SDK was set up before this process's main began."""
    return "opentelemetry.sdk.trace" in sys.modules


@contextmanager
def span(name: str, episode_id: str, **attributes: str | int | float) -> Iterator[None]:
    """A span in the trace of an episode around what is done; an error ends it as one."""
    if not _wanted(episode_id):
        yield
        return
    with _tracer().start_as_current_span(
        name, context=_context(episode_id), attributes=_named(episode_id, attributes)
    ):
        yield


def happened(
    name: str, episode_id: str, start_s: float, end_s: float, **attributes: str | int | float
) -> None:
    """A span of something that is over, between two UTC seconds."""
    if not _wanted(episode_id):
        return
    made = _tracer().start_span(
        name,
        context=_context(episode_id),
        attributes=_named(episode_id, attributes),
        start_time=int(start_s * NANO),
    )
    made.end(int(end_s * NANO))


def _wanted(episode_id: str) -> bool:
    """Whether there is a trace to add to; what is no id of an episode has none."""
    return traced() and re.fullmatch("[0-9a-f]{32}", episode_id) is not None


def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("lwd")


def _named(episode_id: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {"lwd.episode": episode_id} | {f"lwd.{k}": v for k, v in attributes.items()}


def _context(episode_id: str) -> Any:
    """A remote parent whose trace id is the episode's id; its span id is the id's second half."""
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    parent = SpanContext(
        trace_id=int(episode_id, 16),
        span_id=int(episode_id[16:], 16) or 1,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(parent))
