"""The facts that a measured number is worth nothing without: command, machine, versions, commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def _cpu() -> str:
    """Model name of the processor, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> str:
    """Physical memory in GiB."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    """Short commit; `+` says that tracked source files differ from it."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks")
        return _git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"


def header(command: str) -> str:
    """Markdown list that goes on top of every file in benchmarks/results."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    facts = {
        "command": f"`{command}`",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{_cpu()}, {_cores()} cores, {_memory_gib()}, {platform.system()}",
        "load average at the end (1, 5, 15 min)": load,
        "python": platform.python_version(),
        "jax": f"{_version('jax')} (jaxlib {_version('jaxlib')})",
        "mujoco": _version("mujoco"),
    }
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())
