"""The Euler scheme against numbers of the authors' code.

`benchmarks/qam_official/goldens.py` ran their agent: same nets, data, start and noises as here.
Theirs is a sum over dimensions where ours is a mean; nothing else differs.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms import flow, qam

GOLDEN = Path(__file__).parents[1] / "golden" / "qam_official.npz"
CASES = ("ten", "four")


class Golden(NamedTuple):
    """Arrays of one case by name, and its nets."""

    arrays: dict[str, np.ndarray]
    steps: int
    chunk: tuple[int, ...]

    def net(self, name: str) -> dict[str, jax.Array]:
        return {
            path.removeprefix(f"{name}/"): jnp.asarray(leaf)
            for path, leaf in self.arrays.items()
            if path.startswith(f"{name}/")
        }

    def chunks(self, name: str) -> jax.Array:
        """[..., batch, dimensions] to chunks."""
        flat = jnp.asarray(self.arrays[name])
        return flat.reshape(*flat.shape[:-1], *self.chunk[1:])


@pytest.fixture(scope="module", params=CASES)
def golden(request) -> Golden:
    with np.load(GOLDEN) as file:
        arrays = {
            name.removeprefix(f"{request.param}/"): file[name]
            for name in file.files
            if name.startswith(f"{request.param}/")
        }
    return Golden(arrays, len(arrays["noises"]), arrays["actions"].shape)


def perceptron(params, x):
    """Dense, GELU and, where the net has it, layer norm."""
    prefix, count = next(iter(params)).split("/")[0], sum("kernel" in name for name in params)
    for i in range(count):
        layer = {
            name: params[f"{prefix}/{kind}_{i}/{name}"]
            for kind, name in (("Dense", "kernel"), ("Dense", "bias"))
        }
        x = x @ layer["kernel"] + layer["bias"][None]
        if i == count - 1:
            return x
        x = jax.nn.gelu(x)
        if f"{prefix}/LayerNorm_{i}/scale" in params:
            centred = x - x.mean(axis=1, keepdims=True)
            x = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=1, keepdims=True) + 1e-6)
            x = x * params[f"{prefix}/LayerNorm_{i}/scale"][None]
            x = x + params[f"{prefix}/LayerNorm_{i}/bias"][None]
    return x


def velocity(params, observations):
    def evaluate(a, w):
        inputs = jnp.concatenate([observations, a.reshape(len(a), -1), w[:, None]], axis=1)
        return perceptron(params, inputs).reshape(a.shape)

    return evaluate


def critic_gradient(golden):
    """Gradient of the mean over the ensemble; in the authors' default inside the box only."""
    observations = jnp.asarray(golden.arrays["observations"])

    def total(a):
        inputs = jnp.concatenate([observations, a.reshape(len(a), -1)], axis=1)
        heads = jax.vmap(lambda params: perceptron(params, inputs)[:, 0])(golden.net("critic"))
        return heads.mean(axis=0).sum(axis=0)

    boxed = bool(golden.arrays["clip_adj"])
    return qam.boxed(jax.grad(total), 1.0) if boxed else jax.grad(total)


def parts(golden, policy):
    """States, velocities and adjoints of the scheme on the authors' start and noises."""
    observations = jnp.asarray(golden.arrays["observations"])
    reference, plan = velocity(golden.net("reference"), observations), qam.euler(golden.steps)
    path, predicted, endpoint = qam.roll_out(
        velocity(policy, observations),
        reference,
        golden.chunks("start"),
        golden.chunks("noises")[:-1],
        plan,
    )
    adjoint = -float(golden.arrays["inv_temp"]) * critic_gradient(golden)(endpoint)
    base, asked = qam.lean_adjoint(reference, path, adjoint, plan)
    return path, predicted, jax.lax.stop_gradient(base), jax.lax.stop_gradient(asked), endpoint


def loss(golden, policy):
    """Their sum over steps and dimensions."""
    _, predicted, base, asked, _ = parts(golden, policy)
    squares = jnp.square(predicted - base - asked).sum(axis=(2, 3)).mean(axis=1)
    return qam._weights(qam.euler(golden.steps), None) @ squares


@pytest.fixture(scope="module")
def found(golden):
    """What the scheme makes of their nets."""
    return jax.jit(lambda policy: parts(golden, policy))(golden.net("policy"))


def test_the_states_are_theirs(golden, found):
    path = found[0]
    np.testing.assert_allclose(path, golden.chunks("states"), rtol=1e-4, atol=1e-5)


def test_the_adjoints_are_theirs(golden, found):
    asked = found[3]
    gain = qam.euler(golden.steps).gain[:, None, None, None]
    np.testing.assert_allclose(
        -np.asarray(asked) / gain, golden.chunks("adjoints"), rtol=1e-4, atol=1e-5
    )


def test_some_endpoints_are_outside_the_box_and_some_inside(found):
    """So the two tests around this one see both."""
    outside = np.abs(found[4]) > 1
    assert 0.1 < outside.mean() < 0.9


def test_loss_and_gradient_are_theirs(golden):
    found, gradient = jax.jit(jax.value_and_grad(lambda policy: loss(golden, policy)))(
        golden.net("policy")
    )
    assert float(found) == pytest.approx(float(golden.arrays["loss"]), rel=1e-4)
    expected = golden.net("gradient")
    assert gradient.keys() == expected.keys()
    for name, leaf in gradient.items():
        scale = float(np.abs(expected[name]).max())
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-4, atol=1e-4 * scale, err_msg=name)


def test_our_loss_is_theirs_divided_by_the_dimensions(golden):
    """The whole loss draws noise of its own: the same distribution, so the same mean."""
    observations = jnp.asarray(golden.arrays["observations"])
    dimensions = golden.chunk[1] * golden.chunk[2]

    @jax.jit
    def drawn(keys):
        return jax.lax.map(one, keys)

    def one(key):
        start, path = jax.random.split(key)
        noise = jax.random.normal(start, golden.chunk)
        return qam.adjoint_matching_loss(
            velocity(golden.net("policy"), observations),
            velocity(golden.net("reference"), observations),
            critic_gradient(golden), noise, path,
            steps=golden.steps, inv_temp=float(golden.arrays["inv_temp"]), sampler="euler",
            action_mask=jnp.ones(golden.chunk[:2], bool),
        )[0]  # fmt: skip

    losses = dimensions * np.asarray(drawn(jax.random.split(jax.random.key(0), 64)), float)
    assert abs(losses.mean() - float(golden.arrays["loss"])) < 3 * losses.std()


def test_the_cloning_loss_is_theirs(golden):
    found, _ = flow.sft_loss(
        velocity(golden.net("cloned"), jnp.asarray(golden.arrays["observations"])),
        jnp.asarray(golden.arrays["actions"]),
        golden.chunks("flow_start"),
        jnp.asarray(golden.arrays["flow_times"])[:, 0],
        jnp.ones(golden.chunk[:2], bool),
    )
    assert float(found) == pytest.approx(float(golden.arrays["flow_loss"]), rel=1e-5)
