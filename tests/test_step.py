import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdigits.compiling import portion_of
from jaxdigits.config import Preset
from jaxdigits.model import build
from jaxdigits.network import Form
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import resolve
from jaxdigits.step import (
    Data,
    Part,
    Portion,
    cross_entropy,
    epoch_order,
    init_state,
    make_update,
    summed,
    zero_sums,
)
from jaxdigits.whitening import whitened_filters


def setup(mnist, n, form: Form = "patches", **overrides):
    """The state, the data and the update of a small run over `n` images."""
    config = resolve("standard", channels=(4, 8), hidden=32, **overrides)
    network = build(config.channels, config.hidden, 10, form=form, fixed_stem=config.stem == "whitened")
    optimizer = make_optimizer(config, 200)
    images, labels = mnist.train.images[:n], mnist.train.labels[:n].astype(np.int32)
    order = epoch_order(5, 0, n, config.batch_size)
    data = Data(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(order), jax.random.key(7))
    stem = None if config.stem == "random" else whitened_filters(images, config.channels[0])
    state = jax.jit(lambda params: init_state(params, optimizer))(network.init(0, stem))
    return state, data, make_update(network, optimizer, config, 200)


@pytest.mark.parametrize("augmented", [False, True])
def test_overfits_one_batch(mnist, augmented):
    limits: dict[str, Any] = {} if augmented else {"max_shift": 0.0, "max_scale": 0.0, "max_shear": 0.0}
    state, data, update = setup(mnist, 32, batch_size=32, label_smoothing=0.0, learning_rate=0.01, **limits)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 200, lambda _, s: update(s, data), s))(state)
    last = jax.jit(update)(state._replace(sums=zero_sums()), data).sums
    assert int(last.correct) == 32
    assert float(last.loss) / 32 < 0.1


@pytest.mark.parametrize(
    ("stem", "weight_decay"), [("whitened", 0.0), ("tuned", 0.0), ("random", 0.0), ("whitened", 0.5)]
)
def test_everything_is_trained_but_a_fixed_first_convolution(mnist, stem, weight_decay):
    before, data, update = setup(mnist, 64, batch_size=16, stem=stem, weight_decay=weight_decay)
    after = jax.jit(lambda s: jax.lax.fori_loop(0, 4, lambda _, s: update(s, data), s))(before)
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, after.params)
    assert jax.tree.leaves(changed["convs"].pop(0)) == [stem != "whitened"] * 2
    assert jax.tree.leaves(changed) == [True] * 6


@pytest.mark.parametrize(("n", "batch_size"), [(50, 16), (48, 16), (5, 16), (33, 1)])
def test_an_epoch_counts_each_image_once(mnist, n, batch_size):
    state, data, update = setup(mnist, n, batch_size=batch_size)
    step = jax.jit(update)
    for _ in range(math.ceil(n / batch_size)):
        state = step(state, data)
    assert int(state.sums.images) == n


def test_what_fills_up_a_batch_changes_nothing(mnist):
    state, data, update = setup(mnist, 20, batch_size=16)
    step = jax.jit(update)
    state = step(state, data)
    others = data._replace(order=data.order.at[1, 4:].set(20 + 7))
    assert not np.array_equal(data.order, others.order)
    ends = [step(state, d) for d in (data, others)]
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.leaves(end.params) for end in ends))


def test_the_order_is_a_permutation_and_differs_between_epochs():
    orders = [epoch_order(seed, epoch, 1000, 64) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0].shape == (16, 64)
    assert sorted(orders[0].flat) == [*range(1000), *[1000] * 24]
    assert len({order.tobytes() for order in orders}) == 3
    np.testing.assert_array_equal(orders[0], orders[3])


def test_every_order_is_as_likely_as_another():
    """Of 4 images, each comes first, second, third and fourth equally often."""
    places = np.array([epoch_order(seed, epoch, 4, 4)[0] for seed in range(40) for epoch in range(50)])
    counts = np.array([np.bincount(column, minlength=4) for column in places.T])
    chi_square = ((counts - 500) ** 2 / 500).sum()  # 9 degrees of freedom: above 33.7 once in 10,000
    assert chi_square < 33.7


@pytest.mark.parametrize("multiple", [2, 3, 7])
def test_rows_that_several_devices_share_are_filled_up(multiple):
    alone, shared = (epoch_order(0, 0, 100, 32, m) for m in (1, multiple))
    assert shared.shape[1] % multiple == 0
    assert shared.shape[1] - 32 < multiple
    np.testing.assert_array_equal(shared[:, :32], alone)
    assert (shared[:, 32:] == 100).all()


@pytest.mark.parametrize(  # of two pieces; filled up; one portion of two, of four; not divided evenly
    ("chosen", "n"),
    [((16, 8), 64), ((16, 8), 50), ((64, 32), 64), ((64, 16), 64), ((64, 20), 50), ((13, 5), 50)],
)
def test_portions_of_a_batch_add_up_to_it(mnist, n, chosen):
    config = resolve("standard", channels=(4, 8), hidden=32, batch_size=64)
    network, optimizer = build((4, 8), 32, 10, form="patches"), optax.sgd(0.1)
    images, labels = mnist.train.images[:n], mnist.train.labels[:n].astype(np.int32)
    order = epoch_order(5, 0, n, 64)
    data = Data(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(order), jax.random.key(7))
    state = jax.jit(lambda params: init_state(params, optimizer))(network.init(0))
    whole, parts = (
        jax.jit(make_update(network, optimizer, config, 200, portion))(state, data)
        for portion in (None, Portion(*chosen))
    )
    assert int(parts.sums.images) == n
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.params, parts.params)
    np.testing.assert_allclose(float(whole.sums.loss), float(parts.sums.loss), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(256, [64] * 4), (128, [64] * 2), (192, [96] * 2), (640, [160] * 4), (2176, [544] * 4), (99, [99])],
)
def test_a_batch_has_no_more_pieces_than_a_portion(images, sizes):
    taken = []

    def count(part: Part):
        taken.append(len(part.labels))
        return part.weights.sum()

    whole = Part(jnp.zeros((images, 28, 28, 1)), jnp.zeros(images, jnp.int32), jnp.ones(images))
    assert summed(count, whole, Portion(256, 64)) == images
    assert taken == sizes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("preset", get_args(Preset))
def test_no_preset_has_a_batch_that_cannot_go_portion_by_portion(preset, dtype):
    config = resolve(preset)
    portion = portion_of(build(config.channels, config.hidden, 10, form="columns", dtype=dtype), "cpu")
    assert portion
    assert config.batch_size <= portion.images or config.batch_size % portion.images == 0


def test_cross_entropy_is_that_of_the_smoothed_target():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32))
    labels = jnp.arange(6)
    target = 0.9 * jax.nn.one_hot(labels, 10) + 0.01
    expected = -(target * jax.nn.log_softmax(logits)).sum(1)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.1), expected, rtol=1e-5)
