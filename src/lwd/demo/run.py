"""Runs the ring: services, learner and fleet as processes, phase by phase, then the evidence."""

import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.live import Live

from lwd.actor.threads import SINGLE_THREAD
from lwd.config import COMPACT, STAGES, DemoConfig, LearnerConfig, PlaneConfig
from lwd.demo import picture, summary, view
from lwd.demo.plan import Assignment, assignments, episodes
from lwd.demo.progress import Observer, Progress, waiting
from lwd.episode.types import Kind
from lwd.errors import ConfigError, ServiceError
from lwd.eval.evaluate import SIMULATOR, Bench, Starts, evaluate, seeing
from lwd.eval.results import Evaluation
from lwd.learner.recipes import recipe, suited
from lwd.models.presets import cameras, input_format
from lwd.processes import Processes, free_ports
from lwd.sim.tasks import task as find_task
from lwd.store import weights
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at the run."""
START_S = 60.0
"""Longest wait for the services to answer."""
DRAIN_S = 60.0
"""Longest wait for the last episodes to reach the snapshot."""
PLAIN_S = 10.0
"""Seconds between two lines without a live view."""


def run(config: DemoConfig) -> None:
    """The main job; Ctrl-C ends it cleanly and the same command goes on from there."""
    for name in config.tasks:
        find_task(name)
    signal.signal(signal.SIGTERM, _interrupt)
    out = _folder(config)
    try:
        Demo(config, out).run()
    except KeyboardInterrupt:
        view.console().print(f"stopped; the same command goes on from {out}")
        raise


class Demo:
    """One run."""

    def __init__(self, config: DemoConfig, out: Path) -> None:
        self.config, self.out = config, out
        queue, service = free_ports(2)
        self.plane = PlaneConfig(
            root=out,
            queue_url=f"nats://127.0.0.1:{queue}",
            service_url=f"http://127.0.0.1:{service}",
        )
        self.fleet = assignments(config)
        self.learner = _learner(config, self.fleet)
        self.console = view.console()
        self.started = time.monotonic()
        self._show: Callable[[Progress], None] = self._print
        self._printed = 0.0

    def run(self) -> None:
        """Services and learner up, three phases of the fleet, then the evidence."""
        with Catalog(self.plane.catalog) as catalog, Processes(self.out / "logs") as processes:
            self.processes, self.observer = processes, Observer(self.plane, catalog)
            watch = f"lwd dashboard --root {self.out} --service-url {self.plane.service_url}"
            self.console.print(f"to watch and take part: {watch}", soft_wrap=True)
            with self._viewed():
                self._start_services()
                self._start_learner()
                self._collect("demonstrations and play", (Kind.DEMO, Kind.PLAY))
                self._until("supervised fine-tuning", lambda now: now.published("sft"))
                self._collect("rollouts of the SFT policy", (Kind.ROLLOUT,))
                self._until("offline RL", lambda now: now.published("offline"))
                self._deploy()
                now = self._drain()
            processes.stop(*processes.names)
        self._conclude(now)

    def _start_services(self) -> None:
        plane = self.plane
        urls = ("--root", self.out, "--queue-url", plane.queue_url, "--service-url")
        self.processes.start("queue", "queue", "--root", self.out, "--port", _port(plane.queue_url))
        for name in ("service", "coordinator", "edge"):
            self.processes.start(name, name, *urls, plane.service_url)
        client, deadline = ServiceClient(plane.service_url), time.monotonic() + START_S
        while not client.healthy():
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"The metadata service did not answer within {START_S:.0f} s; "
                    f"see {self.out / 'logs' / 'service.log'}."
                )
            self._look("starting the services")

    def _start_learner(self) -> None:
        self.processes.start("learner", "learner", "--root", self.out, *_flags(self.learner))

    def _collect(self, phase: str, kinds: Sequence[Kind]) -> None:
        """The whole fleet saves its quota of each kind, one kind after the other."""
        for kind in kinds:
            for robot in self.fleet:
                self._start_robot(robot, kind)
            self._until(phase, lambda _: not self._any_robot())

    def _deploy(self) -> None:
        """Robots act until the learner has done its online updates."""
        for robot in self.fleet:
            self._start_robot(robot, Kind.ONLINE)
        self._until("deployed: online RL", lambda _: not self.processes.running("learner"))
        self.processes.stop(*(robot.name for robot in self.fleet))

    def _drain(self) -> Progress:
        """Every saved episode reaches the snapshot."""
        deadline = time.monotonic() + DRAIN_S
        while (now := self._look("draining")).produced > len(now.episodes):
            if time.monotonic() > deadline:
                log.warning("waited %.0f s, not uploaded=%d", DRAIN_S, waiting(self.out))
                break
        return now

    def _start_robot(self, robot: Assignment, kind: Kind) -> None:
        quota = ("--episodes", robot.quota[kind]) if kind in robot.quota else ()
        self.processes.start(
            robot.name,
            "robot",
            *("--robot", robot.name, "--index", robot.index, "--seed", self.config.seed),
            *("--kind", kind.value, *quota, "--tasks", *robot.tasks, "--root", self.out),
            *("--queue-url", self.plane.queue_url, "--service-url", self.plane.service_url),
            "--intervene" if self.config.intervene else "--no-intervene",
            *self._sight(),
            environment=SINGLE_THREAD,
            niceness=5,  # robots shall not starve the learner of its cores
        )

    def _sight(self) -> list[object]:
        """Flags of a robot whose policy sees: its cameras, and images at every other tick."""
        if not (seen := cameras(self.config.preset, COMPACT)):
            return []
        side = input_format(self.config.preset, COMPACT).image
        return ["--cameras", *seen, "--image-size", side, "--image-every", 2]

    def _any_robot(self) -> bool:
        return any(self.processes.running(robot.name) for robot in self.fleet)

    def _until(self, phase: str, done: Callable[[Progress], object]) -> None:
        while not done(self._look(phase)):
            pass

    def _look(self, phase: str) -> Progress:
        """Wait a moment, restart what died, read and show where the run stands."""
        time.sleep(LOOK_S)
        self.processes.check()
        now = self.observer.look()
        now.phase = phase
        self._show(now)
        return now

    @contextlib.contextmanager
    def _viewed(self) -> Iterator[None]:
        """The live view while the fleet runs, or a line now and then."""
        if self.config.plain or not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            self._show = lambda now: live.update(
                view.render(now, self.fleet, self.config, self.started), refresh=True
            )
            yield
        self._show = self._print

    def _print(self, now: Progress) -> None:
        if time.monotonic() - self._printed >= PLAIN_S:
            self._printed = time.monotonic()
            line = f"{self._printed - self.started:4.0f} s  {view.line(now)}"
            self.console.print(line, soft_wrap=True)

    def _conclude(self, now: Progress) -> None:
        """Evaluate the three policies on the same starts; summary, table and picture."""
        evaluation = self._evaluate(now)
        evaluation.save(self.out / "evaluation.json")
        picture.draw(self.out, now, evaluation, Objects(self.plane.objects))
        seconds = time.monotonic() - self.started
        found = summary.summarise(self.out, now, evaluation, seconds)
        summary.write(self.out / "summary.json", found)
        self.console.print(summary.table(evaluation))
        for sentence in summary.sentences(found):
            self.console.print(sentence, soft_wrap=True)
        files = ", ".join(str(self.config.out / name) for name in ("summary.json", "demo.png"))
        self.console.print(f"{files}; {seconds:.0f} s in all", soft_wrap=True)

    def _evaluate(self, now: Progress) -> Evaluation:
        objects, policies = Objects(self.plane.objects), {}
        for stage in STAGES:
            row = now.published(stage)
            if row is None:
                raise ServiceError(f"no weights of stage {stage!r} were published; see the logs.")
            policies[stage] = weights.fetch(objects, row, folder=self.out / "policies")
        starts = Starts(
            tasks=self.config.tasks,
            episodes=self.config.evaluation_episodes,
            seed=self.config.seed,
            control=COMPACT,
        )
        with self.console.status("evaluation") as status:
            return evaluate(
                policies,
                starts,
                workers=2,
                bench=_bench(self.config),
                progress=lambda done, total: status.update(f"evaluation {done}/{total}"),
            )


def _bench(config: DemoConfig) -> Bench:
    """The simulator, with the cameras of the preset."""
    if not (seen := cameras(config.preset, COMPACT)):
        return SIMULATOR
    return seeing(seen, input_format(config.preset, COMPACT).image)


def _learner(config: DemoConfig, fleet: list[Assignment]) -> LearnerConfig:
    """The recipe with the demo's budgets; each stage starts when its data are there."""
    data = {
        "sft": episodes(fleet, Kind.DEMO),
        "offline": episodes(fleet, Kind.DEMO, Kind.PLAY, Kind.ROLLOUT),
    }
    settings = suited(recipe("lwd", COMPACT, seed=config.seed), config.preset)
    settings = replace(settings, report_every=10)
    for stage, count in data.items():
        settings = settings.with_stage(stage, episodes=count)
    for stage in STAGES:
        settings = settings.with_stage(stage, updates=getattr(config, f"{stage}_updates"))
    return settings.with_stage("online", updates_per_episode=config.updates_per_episode)


def _flags(learner: LearnerConfig) -> list[str]:
    """The settings in which the demo's learner differs from the recipe, as flags."""
    flags = ["--seed", str(learner.seed), "--report-every", str(learner.report_every)]
    flags += ["--preset", learner.preset]
    for stage, settings in learner.stages.items():
        for name in ("updates", "episodes", "updates_per_episode"):
            flags += [f"--{stage}.{name.replace('_', '-')}", str(getattr(settings, name))]
    return flags


def _folder(config: DemoConfig) -> Path:
    """The run's folder: a finished run is moved aside, an unfinished one goes on."""
    out, settings = config.out.absolute(), config.out.absolute() / "demo.json"
    if (out / "summary.json").exists():
        aside = next(
            p for n in range(1, 10_000) if not (p := out.with_name(f"{out.name}-{n}")).exists()
        )
        out.rename(aside)
        log.info("moved finished run to %s", aside)
    wanted = {k: v for k, v in asdict(config).items() if k not in ("out", "plain")}
    wanted["tasks"] = list(config.tasks)
    if settings.exists():
        given = json.loads(settings.read_text())
        if given != wanted:
            different = sorted(k for k in wanted if given.get(k) != wanted[k])
            raise ConfigError(
                f"{out} holds an unfinished run with other settings ({', '.join(different)}). "
                f"Give the same ones to go on, or another --out."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(wanted))
    except OSError as error:
        raise ConfigError(
            f"--out {out} is not usable: {error.strerror}. Choose another."
        ) from error
    return out


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM ends the demo as Ctrl-C does."""
    raise KeyboardInterrupt
