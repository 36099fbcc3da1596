"""The learner as a process: one per host, the same program on every one."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

from lwd.config import HostConfig, LearnerConfig, PlaneConfig
from lwd.errors import LwdError, ServiceError
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.recipes import losses, nets
from lwd.learner.state import TrainState, trained
from lwd.learner.train import Stopped, train
from lwd.models.acts import Acting
from lwd.models.artifact import frozen, pack
from lwd.models.fns import Params
from lwd.models.inputs.preparation import Preparation
from lwd.models.presets import input_format, sees
from lwd.models.sharding import mesh
from lwd.replay.bindings import Bindings
from lwd.replay.reader import Options, Reader
from lwd.store import metrics, weights
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects

log = logging.getLogger(__name__)

_LOST = ("Gloo", "NCCL", "heartbeat", "oordination service")
"""What the messages of JAX's collectives have in common when another host is gone."""


def run(
    plane: PlaneConfig,
    learner: LearnerConfig,
    hosts: HostConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the last stage is done (True) or `stop()` is true (False)."""
    if hosts.hosts > 1:
        join(hosts)
    try:
        with Catalog(plane.catalog) as catalog:
            return _train(catalog, plane, learner, hosts, stop)
    except (ValueError, RuntimeError) as error:
        if hosts.hosts == 1 or not _is_loss_of_a_host(error):
            raise
        raise ServiceError(
            f"host {hosts.host} lost the group of {hosts.hosts} hosts: {error}. Start all of them "
            f"again; they go on from the newest checkpoint."
        ) from error


def _train(
    catalog: Catalog,
    plane: PlaneConfig,
    learner: LearnerConfig,
    hosts: HostConfig,
    stop: Callable[[], bool],
) -> bool:
    """`run` with an open catalog."""
    objects = Objects(plane.objects)
    reader = Reader(
        catalog,
        objects,
        plane.root / "cache" / f"learner-{hosts.host}",
        horizon=learner.control.horizon,
        discount=learner.control.discount(),
        host=hosts.host,
        hosts=hosts.hosts,
        seed=learner.seed,
        barrier=feed.smallest,
        options=reader_options(learner),
    )
    checkpoints = Checkpoints(plane.root / "checkpoints")
    bindings = Bindings(reader, plane.root / "bindings.jsonl", keep=hosts.host == 0)
    report = Metrics(plane.root / "learner.jsonl") if hosts.host == 0 else _silent
    release = partial(_release, catalog, objects, reader, learner) if hosts.host == 0 else _keep
    publish = partial(_publish, learner, release)
    try:
        train(
            learner, reader, checkpoints, bindings,
            publish=publish, report=report, stop=stop, over=mesh(hosts.fsdp),
        )  # fmt: skip
        return True
    except Stopped:
        log.info("learner stopped")
        return False
    except (ValueError, RuntimeError) as error:
        if _is_loss_of_a_host(error):  # said now: JAX may abort while the checkpoint is closed
            log.error("lost the group host=%d hosts=%d", hosts.host, hosts.hosts)
        raise
    finally:
        checkpoints.close()
        reader.close()


def reader_options(learner: LearnerConfig) -> Options:
    """Rows are those that the settings allow; batches have the images that the preset sees."""
    options = Options(
        single_source=learner.single_source, bootstrap_timeouts=learner.bootstrap_timeouts
    )
    if not sees(learner.preset):
        return options
    format_ = input_format(learner.preset, learner.control, learner.embodiment)
    cameras = tuple(c for _, c in format_.cameras if c)
    return replace(options, cameras=cameras, image_size=format_.image)


class Metrics:
    """One JSON line per report: when, stage, update, and the mean of every metric."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, at: Position, means: dict[str, float]) -> None:
        metrics.UPDATE.set(at.update, stage=at.stage)
        for name, value in means.items():
            metrics.LEARNER.set(value, metric=name)
        line = json.dumps({"time": time.time(), **at._asdict(), **means})
        with self.path.open("a") as file:
            file.write(line + "\n")


def _silent(at: Position, means: dict[str, float]) -> None:
    """Hosts other than 0 do not report."""


def _publish(
    learner: LearnerConfig,
    release: Callable[[Params, Acting, Preparation, Position], int],
    state: TrainState,
    normaliser: Preparation,
    at: Position,
) -> int:
    """Every host takes part in gathering what only host 0 releases."""
    acting = losses(learner.recipe)[at.stage].acting
    assert acting is not None, "a loss without a policy is not published"
    how = acting(state.networks, learner.stage(at.stage))
    theta, extra = feed.gathered((state.policy, how.extra))
    return release(theta, replace(how, extra=extra), normaliser, at)


def _keep(theta: Params, acting: Acting, normaliser: Preparation, at: Position) -> int:
    """Hosts other than 0 release nothing."""
    return 0


def _release(  # noqa: PLR0913
    catalog: Catalog,
    objects: Objects,
    reader: Reader,
    learner: LearnerConfig,
    theta: Params,
    acting: Acting,
    normaliser: Preparation,
    at: Position,
) -> int:
    """Hand a policy to the fleet; what the stage does not train is sent once."""
    preset, control, settings = learner.preset, learner.control, learner.stage(at.stage)
    tensors, metadata = pack(theta, normaliser, preset=preset, control=control, acting=acting)
    wanted = trained(nets(learner).policy, settings)
    row = weights.publish(
        objects,
        catalog,
        tensors,
        metadata,
        weights.Trained(at.stage, at.update, reader.version),
        frozen=frozen(tensors, wanted) if wanted else (),
        canary=learner.canary,
    )
    return row.version


def join(hosts: HostConfig) -> None:
    """Form the group of hosts; ServiceError when they do not find each other."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    try:
        jax.distributed.initialize(
            hosts.gather_at,
            hosts.hosts,
            hosts.host,
            coordinator_bind_address=hosts.gather_at,
            heartbeat_timeout_seconds=hosts.silence_s,
            shutdown_timeout_seconds=hosts.silence_s,
        )
    except RuntimeError as error:
        raise ServiceError(
            f"host {hosts.host} of {hosts.hosts} could not join at {hosts.gather_at}: {error}. "
            f"Start all hosts within five minutes and check that the address is reachable."
        ) from error


def _is_loss_of_a_host(error: Exception) -> bool:
    """Whether JAX says that it could not reach the rest of the group."""
    return not isinstance(error, LwdError) and any(sign in str(error) for sign in _LOST)
