"""Algorithm 1, the learner's side: the stages of a recipe, one after the other."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from lwd.config import LearnerConfig, StageConfig
from lwd.errors import ConfigError, unknown
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position, Saved
from lwd.learner.compiled import (
    Update,
    compiled,
    compiled_init,
    compiled_probe,
    compiled_start,
    without_rates,
)
from lwd.learner.loss import ROW_LOSS, Data, Metrics, Relabel
from lwd.learner.pretrained import begin_with, require_present
from lwd.learner.recipes import (
    input_format_of,
    losses,
    nets,
    preparation,
    shapes,
)
from lwd.learner.recipes.lwd import supervised
from lwd.learner.settings import as_json, changes
from lwd.learner.state import TrainState, Transitions, rates, trained
from lwd.learner.watch import Watch
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import cameras, check_words, fit, prepare_as
from lwd.models.sharding import mesh, require_division
from lwd.replay.bindings import Bindings
from lwd.replay.memory import PARTS
from lwd.replay.reader import Reader
from lwd.replay.sampler import Sampling

log = logging.getLogger(__name__)

POLL_S = 0.2
"""Seconds between two looks at the catalog while data is missing."""

LOAD_S = 0.01
"""Least time for taking in new episodes after an update, while the device computes (s)."""
LOAD_SHARE = 0.1
"""The same as a share of the learner's time: a fleet must not outrun one whose updates are slow."""

PROBE_EVERY = 5
"""Reports between two probes, each of which costs a quarter of an update."""


class Stopped(Exception):
    """Somebody asked the learner to stop; the checkpoint is written."""


@runtime_checkable
class Publish(Protocol):
    """Hands a policy to the fleet and returns its version, 0 on hosts that leave it to another."""

    def __call__(self, state: TrainState, normaliser: Preparation, at: Position) -> int: ...


Report = Callable[[Position, dict[str, float]], None]
"""Receives the mean of every metric since the last report."""


def train(  # noqa: PLR0913
    config: LearnerConfig,
    reader: Reader,
    checkpoints: Checkpoints,
    bindings: Bindings,
    *,
    publish: Publish,
    report: Report,
    stop: Callable[[], bool] = lambda: False,
    over: Mesh | None = None,
) -> TrainState:
    """Algorithm 1 from the newest checkpoint, or from the start where there is none.

    Returns the state after the last stage. Raises `Stopped` once `stop()` is true on any host and
    NonFiniteError after `max_skipped` updates in a row that could not be applied.
    """
    learner = Learner(config, bindings, reader, checkpoints, report, stop, over or mesh())
    at, state, normaliser = learner.resume()
    stages = list(config.stages)
    for stage in stages[stages.index(at.stage) :]:
        if at.stage != stage:
            at = Position(stage, 0)
        if at.update == 0:
            learner.wait_for_data(stage)
        learner.check_data(stage)
        if at.update == 0:
            normaliser = normaliser or fit_normaliser(config, reader)
            state = learner.start(state, stage)
        assert normaliser is not None
        state = learner.run(at, state, normaliser, publish)
    return state


class Learner:
    """The parts that every stage shares."""

    def __init__(
        self,
        config: LearnerConfig,
        bindings: Bindings,
        reader: Reader,
        checkpoints: Checkpoints,
        report: Report,
        stop: Callable[[], bool],
        over: Mesh,
    ) -> None:
        self.config, self.reader, self.checkpoints = config, reader, checkpoints
        self.bindings, self.report, self.stop = bindings, report, stop
        self.watch = Watch(config.max_skipped, reader.feedback)
        for part in (part for stage in config.stages.values() for part in stage.mixture):
            if part not in PARTS:
                raise unknown("replay part", part, PARTS)
        self.losses = losses(config.recipe)
        self.nets, self.mesh = nets(config), over
        if robot := input_format_of(config):
            check_words(
                config.preset, robot, tokenizer=config.tokenizer,
                critic_tokenizer=config.pretrained.critic_tokenizer,
            )  # fmt: skip
        for name, stage in config.stages.items():
            require_division(stage.batch, over, f"{name}.batch")
        keys = jax.random.split(jax.random.key(config.seed), 4)
        self.keys = dict(zip(("networks", "pretrained", "updates", "probe"), keys, strict=True))
        self.policy = 0
        """Version that was published last."""

    def resume(self) -> tuple[Position, TrainState, Preparation | None]:
        """Where to go on: the newest checkpoint, on the snapshot that it was saved on, or a fresh
        start."""
        at = self.checkpoints.position()
        saved = None
        if at is not None:
            self.config.stage(at.stage)
            like = feed.placed(shapes(self.config, at.stage), self.mesh)
            saved = self.checkpoints.restore(like)
        if saved is None:
            require_present(self.config.pretrained, self.config.preset)
            self.bindings.forget()
            state = compiled_init(self.config, self.mesh)(self.keys["networks"])
            state = begin_with(
                state, self.config.pretrained, self.config.preset, self.config.control,
                self.keys["pretrained"], input_format_of(self.config),
            )  # fmt: skip
            return Position(next(iter(self.config.stages)), 0), state, None
        self._require_same_support(saved)
        self.policy = saved.policy
        changed = changes(saved.settings or {}, as_json(self.config))
        if saved.settings is not None and changed:
            log.warning("settings differ from the checkpoint's %s", " ".join(changed))
        while self.reader.sync(at_most=saved.snapshot) < saved.snapshot:
            self._check_stop()
            time.sleep(POLL_S)
        if saved.priorities:
            self.reader.restore_priorities(saved.priorities)
        return saved.position, saved.state, preparation(self.config, saved.statistics)

    def _require_same_support(self, saved: Saved) -> None:
        """ConfigError if V has been learnt on other atoms than these settings read it with: the
        shapes are the same, so that nothing else would tell."""
        at, begun = saved.position, saved.position.begun(self.config.stages)
        if saved.settings is None or all(self.losses[name].step is supervised for name in begun):
            return
        then, now = saved.settings["stages"][at.stage]["divl"], self.config.stage(at.stage).divl
        if (then["v_min"], then["v_max"]) != (now.v_min, now.v_max):
            raise ConfigError(
                f"the checkpoint learnt V on the support ({then['v_min']}, {then['v_max']}), but "
                f"divl.v_min and divl.v_max are ({now.v_min}, {now.v_max}): its values would mean "
                f"others. Give those that it was trained with, or another --root."
            )

    def start(self, state: TrainState, stage: str) -> TrainState:
        """The state of update 0, placed as every later one so that one compilation serves all."""
        settings = self.config.stage(stage)
        wanted = trained(self.nets.policy, settings)
        begin = compiled_start(self.losses[stage].start, settings.optimiser, self.mesh, wanted)
        return begin(state)

    def wait_for_data(self, stage: str) -> None:
        """Until the snapshot holds enough episodes of every part that `stage` samples, and of the
        policy that was published last."""
        settings, draw = self.config.stage(stage), self._draw(stage, 0)
        said = None
        while True:
            self._look(draw)
            have = self._episodes(settings)
            if have >= settings.episodes and self.reader.acted(self.policy) >= settings.fresh:
                return
            if have < settings.episodes and have != said:
                log.info("waiting stage=%s episodes=%d of=%d", stage, have, settings.episodes)
                said = have
            self._check_stop()
            time.sleep(POLL_S)

    def check_data(self, stage: str) -> None:
        """ConfigError if episodes have another control rate, or V cannot express the returns in
        the snapshot; a warning if the window of a task is set that the snapshot does not have."""
        settings = self.config.stage(stage)
        _require_rate(self.reader.rates(), self.config.control.rate_hz)
        settings.divl.require_support(*self.reader.returns(settings.mixture))
        counts = self.reader.statistics()
        tasks = {task for part in settings.mixture for task in counts[part].tasks}
        named = settings.divl.n_step if isinstance(settings.divl.n_step, Mapping) else {}
        if unseen := set(named) - tasks:
            log.warning(
                "no episodes of tasks in n_step stage=%s tasks=%s seen=%s",
                stage, ",".join(sorted(unseen)), ",".join(sorted(tasks)),
            )  # fmt: skip

    def run(
        self, at: Position, state: TrainState, normaliser: Preparation, publish: Publish
    ) -> TrainState:
        """The updates of one stage from `at`, with reports, checkpoints and publications."""
        settings = self.config.stage(at.stage)
        rate, step = rates(settings), self._updates(at.stage)
        number_of_stage = list(self.config.stages).index(at.stage)
        seed = jax.random.fold_in(self.keys["updates"], number_of_stage)
        sampling = Sampling(
            task_balanced=settings.task_balanced, loss_adaptive=settings.loss_adaptive
        )
        relabel = self._relabel(at.stage, state, normaliser)
        loaded = time.monotonic()
        try:
            for number in range(at.update, settings.updates):
                draw = self._draw(at.stage, number)
                self._wait_for_pace(number, draw, settings)
                rows = self.reader.sample(
                    draw, settings.mixture, settings.batch,
                    n_step=settings.divl.n_step, sampling=sampling,
                )  # fmt: skip
                batch = feed.transitions(relabel(rows), normaliser, self.mesh)
                key = jax.random.fold_in(seed, number)
                state, metrics = step(number)(state, batch, key, rate(number))
                _require_losses(settings, at.stage, metrics)
                self.watch.add(metrics, rows, draw)
                self.reader.load(max(LOAD_S, LOAD_SHARE * (time.monotonic() - loaded)))
                loaded = time.monotonic()
                at = Position(at.stage, number + 1)
                self._after(at, state, normaliser, publish, partial(self._seen, batch))
        except Stopped:
            self._save(at, state, normaliser)
            raise
        return state

    def _after(
        self,
        at: Position,
        state: TrainState,
        normaliser: Preparation,
        publish: Publish,
        seen: Callable[[Position, TrainState], dict[str, float]],
    ) -> None:
        """What happens between two updates."""
        config, settings, loss = self.config, self.config.stage(at.stage), self.losses[at.stage]
        last = at.update == settings.updates
        if last or at.update % config.report_every == 0:
            self.report(at, seen(at, state))
            if loss.prepare is None:
                self._look(self._draw(at.stage, at.update), within_s=LOAD_S)
        # Published first: a kill in between repeats a publication instead of losing it.
        due = last or (settings.deployed and at.update % config.publish_every == 0)
        if due and loss.acting is not None:
            self.policy = feed.largest(publish(state, normaliser, at))
        if last or at.update % config.checkpoint_every == 0:
            self._save(at, state, normaliser)
        if at.update % config.report_every == 0:
            self._check_stop()

    def _seen(self, batch: Transitions, at: Position, state: TrainState) -> dict[str, float]:
        """Metrics since the last report; where a critic learns, with a look at what it knows."""
        means, settings = self.watch.means(), self.config.stage(at.stage)
        due = at.update % (PROBE_EVERY * self.config.report_every) == 0
        if "critic/loss" not in means or not (due or at.update == settings.updates):
            return means
        static = without_rates(settings)
        look = compiled_probe(self.nets, static, self.losses[at.stage].acting, self.mesh)
        same_noise = jax.random.clone(self.keys["probe"])
        found = look(state, batch, same_noise)
        return means | {name: float(value) for name, value in found.items()}

    def _save(self, at: Position, state: TrainState, normaliser: Preparation) -> None:
        self.watch.settle()
        self.checkpoints.save(
            at, state, normaliser,
            snapshot=self.reader.version, policy=self.policy, settings=as_json(self.config),
            priorities=self.reader.priorities(),
        )  # fmt: skip

    def _relabel(self, stage: str, state: TrainState, normaliser: Preparation) -> Relabel:
        """What the loss of a stage says about every batch once it has looked at all data."""
        prepare, settings = self.losses[stage].prepare, self.config.stage(stage)
        if prepare is None:
            return lambda rows: rows
        data = Data(self.config, settings, self.nets, self.reader, normaliser, self.mesh)
        return prepare(state, data)

    def _updates(self, stage: str) -> Callable[[int], Update]:
        """Number of an update to the jitted update."""
        settings, step = self.config.stage(stage), self.losses[stage].step
        static = without_rates(settings)
        return lambda number: compiled(step(settings, number), self.nets, static, self.mesh)

    def _draw(self, stage: str, number: int) -> int:
        """Number of the draw from replay, different in every stage."""
        earlier = itertools.takewhile(lambda name: name != stage, self.config.stages)
        return number + sum(self.config.stage(name).updates for name in earlier)

    def _wait_for_pace(self, number: int, draw: int, settings: StageConfig) -> None:
        """Hold back updates that the fleet's data does not yet pay for."""
        while number >= settings.updates_per_episode * self._episodes(settings):
            self._check_stop()
            time.sleep(POLL_S)
            self._look(draw)

    def _look(self, draw: int, *, within_s: float = math.inf) -> None:
        """Bind what is newest, or what this run had bound for a draw before it was killed."""
        while not self.bindings.sync(draw, within_s=within_s):
            self._check_stop()
            time.sleep(POLL_S)

    def _episodes(self, settings: StageConfig) -> int:
        """Episodes in the bound snapshot of the rarest part of the mixture."""
        counts = self.reader.statistics()
        return min(counts[part].episodes for part, share in settings.mixture.items() if share)

    def _check_stop(self) -> None:
        if feed.any_host(self.stop()):
            raise Stopped


def _require_rate(rates: Mapping[float, int], wanted: float) -> None:
    """ConfigError unless all episodes have the control rate that returns are discounted for."""
    if set(rates) <= {wanted}:
        return
    have = " and ".join(f"{rate} Hz ({count})" for rate, count in rates.items())
    mixed, any_rate = len(rates) > 1, next(iter(rates))
    do = "each rate a --root of its own" if mixed else f"--control.rate-hz {any_rate}"
    raise ConfigError(
        f"the snapshot has episodes at {have}, but control.rate_hz is {wanted}. Nothing is "
        "resampled: returns are discounted by the tick, and a policy acts at the rate that it "
        f"learnt. Give {do}."
    )


def _require_losses(stage: StageConfig, name: str, metrics: Metrics) -> None:
    """ConfigError if draws should adapt to losses that nobody computes."""
    if stage.loss_adaptive and ROW_LOSS not in metrics:
        raise ConfigError(
            f"loss_adaptive is {stage.loss_adaptive} in stage {name}, which learns no Q: there is "
            f"no TD loss to adapt to. Set it to 0 there."
        )


def fit_normaliser(config: LearnerConfig, reader: Reader) -> Preparation:
    """From every window of the demonstrations in the bound snapshot, or as it came with the policy
    that the run begins with."""
    begun = config.pretrained
    words = {"tokenizer": config.tokenizer, "critic_tokenizer": begun.critic_tokenizer}
    robot = input_format_of(config)
    if begun.norm_stats:
        file = Path(begun.norm_stats)
        return prepare_as(config.preset, config.control, file, robot=robot, **words)
    seen = reader.windows("demo")
    if not len(seen.state):
        raise ConfigError(
            f"no window of the demonstrations can be used: preset {config.preset} needs images of "
            f"{', '.join(cameras(config.preset, config.control, config.embodiment)) or 'nothing'} "
            "at its begin and its end. Name the cameras that were recorded (--embodiment.cameras), "
            "and keep an image at least once a chunk (--image-every)."
        )
    return fit(config.preset, config.control, seen.state, seen.action, robot=robot, **words)
