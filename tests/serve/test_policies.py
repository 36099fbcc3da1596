"""Which policy robots get: followed, warmed, padded; real weights of the simulator's robots."""

import threading
from dataclasses import replace
from importlib.resources import files

import jax
import numpy as np
import pytest

from actor.fleet import FAST, Fleet, until
from actor.point import PointPolicy
from lwd.actor.policy import PolicyStore
from lwd.actor.robot import Observation
from lwd.config import COMPACT, ControlConfig, PlaneConfig, StateLayout
from lwd.config.embodiment import EmbodimentConfig
from lwd.config.serving import ServeConfig
from lwd.errors import ConfigError, IntegrityError, ServiceError
from lwd.models import presets
from lwd.models.artifact import FlowPolicy, pack
from lwd.models.inputs.format import ABSOLUTE
from lwd.models.normaliser import Normaliser
from lwd.models.presets import build as networks
from lwd.serve.batch import Asked
from lwd.serve.client import RemotePolicy, Server
from lwd.serve.policies import Alike, Following, OnePolicy, Padded, flows, served
from lwd.serve.process import in_thread, prepare
from lwd.serve.warm import example
from lwd.store.access import Access
from serve.point import GoalPolicy


class Gain(GoalPolicy):
    """Plans from its one tensor; notes what it was built of."""

    def __init__(self, tensors, metadata, version):
        super().__init__(version)
        if metadata.get("robot") != "point":
            raise ValueError("weights for another robot")

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        return np.zeros((5, 2), np.float32)


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def following(fleet):
    store = PolicyStore("server", fleet, fleet.download, Gain, polling=FAST)
    with Following(store, fleet.report_load, clock=lambda: 7.0) as policies:
        yield policies


def test_before_the_first_weights_there_is_nothing_to_serve(following):
    with pytest.raises(ServiceError, match="no version of the weights is good"):
        following.current()
    stop = threading.Event()
    stop.set()
    assert not following.ready(stop)


def test_the_newest_version_is_followed(fleet, following):
    fleet.publish(1.0)
    assert following.ready(threading.Event())
    assert following.current().version == 1
    fleet.publish(2.0)
    until(lambda: following.current().version == 2)


def test_a_bad_version_is_never_served(fleet, following):
    fleet.publish(1.0)
    following.ready(threading.Event())
    fleet.publish(2.0, robot="another")
    until(lambda: 2 in following._store.rejected)
    assert following.current().version == 1
    fleet.publish(3.0)
    until(lambda: following.current().version == 3)


def test_a_withdrawn_version_gives_way_to_the_one_before(fleet, following):
    fleet.publish(1.0)
    following.ready(threading.Event())
    fleet.publish(2.0)
    until(lambda: following.current().version == 2)
    bad = following.current()
    following.withdraw(bad, "not finite")
    assert following.current().version == 1
    following.withdraw(bad, "not finite")  # another robot's answer, a moment later
    assert following.current().version == 1


def test_the_fleet_is_told_who_acts_with_what(fleet, following):
    fleet.publish(1.0)
    following.ready(threading.Event())
    following.adopted("arm-1", 1)
    until(lambda: "arm-1" in {row.robot for row in fleet.reported})
    assert {(row.robot, row.version) for row in fleet.reported} == {("arm-1", 1), ("server", 1)}


class Sizes:
    """Plans [x, x, …] from the state's first number; notes the size of each batch."""

    version, normalisation_hash, tokenizer_hash = 4, "a" * 64, "b" * 64

    def __init__(self):
        self.sizes = []

    def reset(self, seed):
        pass

    def chunk(self, observation, instruction):
        return np.zeros((5, 2), np.float32)

    def chunks(self, observations, instructions, rngs):
        self.sizes.append(len(observations))
        assert len(instructions) == len(rngs) == len(observations)
        return np.stack([np.full((5, 2), seen.state[0]) for seen in observations])


def asked(x: float) -> Asked:
    return Asked(
        observation=Observation(state=np.array([x], np.float32)),
        instruction="go",
        rng=np.random.default_rng(0),
    )


@pytest.mark.parametrize(("robots", "sizes"), [(1, [1]), (3, [4]), (8, [8]), (11, [8, 4])])
def test_batches_have_few_sizes_and_everybody_gets_an_own_answer(robots, sizes):
    policy = Sizes()
    chunks = Padded(policy, 8).chunks([asked(x) for x in range(robots)])
    assert policy.sizes == sizes
    assert chunks[:, 0, 0].tolist() == list(range(robots))


def test_every_size_is_warm_before_a_version_is_served():
    policy = Sizes()
    build = served(lambda tensors, metadata, version: policy, 8, lambda tensors, metadata: asked(0))
    warm = build({}, {}, 4)
    assert policy.sizes == [1, 2, 4, 8]
    assert (warm.version, warm.normalisation_hash) == (4, "a" * 64)


def test_a_policy_for_one_robot_alone_is_refused_by_name():
    with pytest.raises(ValueError, match="PointPolicy has no `chunks`"):
        Padded(PointPolicy(version=2), 2)


@pytest.fixture(scope="module")
def weights():
    """Tensors and metadata of an untrained policy of the simulated robots."""
    rng = np.random.default_rng(0)
    policy, _ = networks("state", COMPACT)
    state = rng.normal(size=(8, StateLayout().size)).astype(np.float32)
    action = rng.normal(size=(8, COMPACT.horizon, 16)).astype(np.float32)
    normaliser = Normaliser.fit(state, action)
    return pack(policy.init(jax.random.key(0)), normaliser, preset="state", control=COMPACT)


def test_robots_that_are_computed_together_get_what_they_get_alone(weights):
    policy = FlowPolicy(*weights, 1, control=COMPACT)
    padded = Padded(policy, 2)
    one = example(*weights)
    size = StateLayout().size
    assert one.observation.state.shape == (size,)
    rng = np.random.default_rng(1)
    seen = [
        Observation(state=(one.observation.state + rng.normal(size=size)).astype(np.float32))
        for _ in range(2)
    ]
    together = padded.chunks(
        [
            Asked(observation=s, instruction="go", rng=np.random.default_rng(n))
            for n, s in enumerate(seen)
        ]
    )
    assert together.shape == (2, COMPACT.horizon, 16)
    for number, observation in enumerate(seen):
        policy.reset(number)
        assert np.allclose(together[number], policy.chunk(observation, "go"), atol=1e-4)


def test_a_tokenizer_that_lies_elsewhere_here_is_given_by_its_path(tmp_path):
    trained = tmp_path / "learner" / "tokenizer.json"
    trained.parent.mkdir()
    trained.write_bytes(files("lwd.models.inputs").joinpath("builtin.json").read_bytes())
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(64, StateLayout().size)), rng.normal(size=(64, COMPACT.horizon, 16))
    inputs = presets.fit("tiny", COMPACT, *windows, tokenizer=str(trained))
    shapes = jax.eval_shape(presets.build("tiny", COMPACT)[0].init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    artifact = pack(params, inputs, preset="tiny", control=COMPACT)
    here = trained.rename(tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"learner/tokenizer\.json' is not there"):
        flows(COMPACT)(*artifact, 1)
    assert (
        flows(COMPACT, str(here))(*artifact, 1).tokenizer_hash
        == inputs.metadata()["tokenizer_hash"]
    )
    here.write_bytes(here.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="Give --tokenizer the file that they were trained"):
        flows(COMPACT, str(here))(*artifact, 1)


def test_a_server_takes_rate_and_chunks_from_its_first_weights_and_refuses_others():
    asked = []

    def build(control: ControlConfig):
        asked.append((control.rate_hz, control.horizon))
        return Gain

    def metadata(rate_hz: float, horizon: int, cameras: tuple = ()) -> dict[str, str]:
        told = {"robot": "point", "rate_hz": str(rate_hz), "horizon": str(horizon)}
        if not cameras:
            return told
        form = replace(presets.input_format("tiny", COMPACT), cameras=cameras)
        return told | {"inputs": form.to_json()}

    alike, bad = Alike(build), {"rate_hz": "50.0", "horizon": "16", "robot": "another"}
    with pytest.raises(ValueError, match="another robot"):
        alike({}, bad, 1)
    assert alike.control is None
    assert alike({}, metadata(30.0, 16), 2).version == 2
    assert alike({}, metadata(30.0, 16), 3).version == 3
    assert asked[1:] == [(30.0, 16)] * 2
    ours = r"this server have 30.0 Hz, chunks of 16 ticks and no camera"
    for other, said in (
        (metadata(10.0, 16), "10.0 Hz, chunks of 16"),
        (metadata(30.0, 10), "chunks of 10 ticks"),
        (metadata(30.0, 16, (("base_0_rgb", "top"),)), "cameras top for base_0_rgb"),
    ):
        with pytest.raises(IntegrityError, match=f"{said}.*{ours}"):
            alike({}, other, 4)


def test_a_policy_of_an_imported_dataset_is_served_to_robots_of_its_layout(tmp_path):
    rng, control = np.random.default_rng(0), ControlConfig(rate_hz=20.0, horizon=16)
    libero = EmbodimentConfig(
        cameras=("image", "wrist_image", ""), state=tuple(range(8)), anchors=(*range(6), ABSOLUTE)
    )
    robot = presets.input_format("tiny", control, libero)
    windows = rng.normal(size=(64, 8)), rng.normal(size=(64, 16, 7))
    prepared = presets.fit("tiny", control, *windows, robot=robot)
    shapes = jax.eval_shape(networks("tiny", control, robot=robot)[0].init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    artifact = pack(params, prepared, preset="tiny", control=control)

    alike = Alike(lambda control: served(flows(control), 1, example))
    policy = alike(*artifact, 1)
    assert isinstance(policy, Padded)
    assert alike.control == control
    config = ServeConfig(port=0, layout="libero", deadline_s=60.0)
    arm = Server(url="", layout="libero", timeout_s=60.0)
    image = np.zeros((96, 96, 3), np.uint8)
    seen = Observation(
        state=np.zeros(8, np.float32), images={"base_0_rgb": image, "left_wrist_0_rgb": image}
    )
    plane, told = PlaneConfig(root=tmp_path), alike.inputs
    with in_thread(config, plane, control, OnePolicy(policy), inputs=told) as url:
        remote = RemotePolicy(replace(arm, url=url), control)
        assert remote.chunk(seen, "tidy up").shape == (16, 7)
        assert (remote.metadata["rate_hz"], remote.metadata["horizon"]) == (20.0, 16)
        remote.close()
    more = replace(robot, cameras=(*robot.cameras[:2], ("right_wrist_0_rgb", "other")))
    with pytest.raises(ConfigError, match="'other' as right_wrist_0_rgb, but robots of layout"):
        prepare(config, control, OnePolicy(policy), access=Access(), inputs=more)


def test_weights_without_statistics_cannot_be_warmed_up():
    with pytest.raises(IntegrityError, match="lack tensor 'normaliser/state_mean'"):
        example({}, {})
