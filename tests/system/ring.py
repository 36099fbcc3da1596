"""The processes of one data plane, started as an operator starts them."""

from dataclasses import dataclass, field

from lwd.config import PlaneConfig
from processes import Processes, answers, wait_until

CLI = "from lwd.cli import main; main()"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Where everything is, and what its processes are told besides."""

    config: PlaneConfig
    flags: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """Process to its LWD_TOKEN."""


class Ring:
    """The processes of one data plane."""

    def __init__(self, cell: Cell, processes: Processes):
        self._processes, self._cell = processes, cell
        config = cell.config
        queue, service = config.queue_url, config.service_url
        catalog, objects = ["--catalog", config.catalog], ["--objects", config.objects]
        self._arguments = {
            "queue": ["--port", queue.rsplit(":", 1)[1]],
            "service": [*catalog, "--queue-url", self._as("service"), "--service-url", service],
            "coordinator": [*catalog, *objects, "--queue-url", self._as("coordinator")],
            "edge": [*objects, "--service-url", service],
        }
        self._arguments["coordinator"] += ["--lease-s", "1.5", "--reconcile-s", "1"]
        self.running = {name: self._start(name) for name in self._arguments}
        wait_until(lambda: answers(queue) and answers(service), "the servers")

    def kill(self, name: str) -> None:
        """SIGKILL one process."""
        self._processes.kill(self.running[name])

    def restart(self, name: str) -> None:
        """Start a killed process again, with the same command."""
        self.running[name] = self._start(name)

    def stop(self) -> dict[str, int]:
        """SIGTERM all; exit status of each."""
        return {name: self._processes.stop(process) for name, process in self.running.items()}

    def _as(self, user: str) -> str:
        """Queue URL of a user; an open queue knows none."""
        url = self._cell.config.queue_url
        return url.replace("//", f"//{user}@") if user in self._cell.tokens else url

    def _start(self, name: str):
        flags = ["--root", str(self._cell.config.root), *self._cell.flags.get(name, [])]
        token = self._cell.tokens.get(name, "")
        return self._processes.start(CLI, name, *flags, *self._arguments[name], LWD_TOKEN=token)
