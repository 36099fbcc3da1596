"""What a deployment or an ablation may want to change about a reader."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of one host."""

    single_source: bool = False
    """Leave out chunks that cross the border of an intervention."""
    bootstrap_timeouts: bool = False
    """Treat a time-out as a cut, not as a failure (the paper: a failure)."""
    prefetcher: bool = True
    """Download in a process of its own; else inside `sync`, which then takes as long."""
    cameras: tuple[str, ...] = ()
    """Cameras whose images batches have; windows start only where all of them have one."""
    image_size: int | None = None
    """Side of those images in pixels; None is as recorded."""
    image_workers: int = 2
    """Threads that decode them, and downloads at once of what is not cached."""
    cache_bytes: int = 50 << 30
    """Bound of the payloads on this host's disk."""


USUAL = Options()
