import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.config import Optimizer, peak_rate
from jaxdigits.model import build
from jaxdigits.network import Params
from jaxdigits.optimizer import make_optimizer, make_schedule
from jaxdigits.presets import PRESETS, resolve

SHAPES = build((2, 3), 4, 10, form="patches").shapes


def filled(value: float) -> Params:
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), SHAPES)


def changes(gradients: list[Params], **overrides: Any) -> list[Any]:
    """The changes to parameters of 1 that an optimizer makes of one gradient after the other."""
    optimizer = make_optimizer(resolve("standard", **overrides), 10)

    @jax.jit
    def made(params: Params, gradients: list[Params]) -> list[Any]:
        state, changes = optimizer.init(params), []
        for gradient in gradients:
            change, state = optimizer.update(gradient, state, params)
            changes.append(change)
        return changes

    return made(filled(1.0), gradients)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("updates", [1, 2, 7, 5000])
def test_the_rate_rises_once_to_its_peak_and_ends_near_nothing(preset, updates):
    config = PRESETS[preset]
    rates = np.asarray(jax.jit(jax.vmap(make_schedule(config, updates)))(jnp.arange(updates)))
    assert (rates > 0).all()
    peak = peak_rate(config.learning_rate, config.batch_size)
    assert rates.max() <= peak * (1 + 1e-6)
    turn = rates.argmax()
    assert (np.diff(rates[: turn + 1]) >= 0).all()
    assert (np.diff(rates[turn:]) <= 0).all()
    if updates >= 100:
        assert rates.max() == pytest.approx(peak, rel=1e-5)
        assert rates[-1] < 0.05 * peak


def test_under_muon_the_rate_rises_in_half_the_time():
    steps = jnp.arange(1000)
    schedules = [make_schedule(resolve("standard", optimizer=name), 1000) for name in ("muon", "adamw")]
    rates = [np.asarray(jax.vmap(schedule)(steps)) for schedule in schedules]
    assert [rate.argmax() for rate in rates] == [100, 200]


@pytest.mark.parametrize("times", [4, 16])
def test_the_rate_follows_the_batch_by_its_square_root(times):
    small, large = (resolve("standard", batch_size=size) for size in (32, 32 * times))
    at = jnp.arange(50)
    rates = [jax.vmap(make_schedule(config, 50))(at) for config in (small, large)]
    np.testing.assert_allclose(rates[1], math.sqrt(times) * rates[0], rtol=1e-5)


def kernels_and_biases(params: Any) -> tuple[list[Any], list[Any]]:
    layers = [*params["convs"].values(), params["hidden"], params["output"]]
    return [layer["kernel"] for layer in layers], [layer["bias"] for layer in layers]


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_biases_do_not_decay(name: str):
    overrides: dict[str, Any] = {"weight_decay": 0.1, "stem": "tuned", "optimizer": name}
    kernels, biases = kernels_and_biases(changes([filled(0.0)], **overrides)[0])
    assert len(kernels) == len(biases) == 4
    assert all((np.asarray(change) < 0).all() for change in kernels)
    assert not any(np.any(change) for change in biases)


@pytest.mark.parametrize("name", get_args(Optimizer))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1e3])
def test_a_fixed_first_convolution_stays_and_the_rest_changes_as_ever(
    size: float, weight_decay: float, name: str
):
    gradients = [filled(size), filled(-2 * size)]
    fixed, trained = (
        changes(gradients, weight_decay=weight_decay, stem=stem, optimizer=name)
        for stem in ("whitened", "tuned")
    )
    for ours, theirs in zip(fixed, trained, strict=True):
        assert not any(np.any(change) for change in jax.tree.leaves(ours["convs"][0]))
        if size or weight_decay:
            assert np.any(theirs["convs"][0]["kernel"])
        theirs["convs"][0] = ours["convs"][0]
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_filters_drawn_and_filters_tuned_are_trained_alike():
    drawn, tuned = (changes([filled(0.3)], stem=stem) for stem in ("random", "tuned"))
    jax.tree.map(np.testing.assert_array_equal, drawn, tuned)


def drawn(seed: int) -> Params:
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape, np.float32)), SHAPES)


def test_muon_takes_the_kernels_between_the_first_and_the_last_and_adamw_the_rest():
    gradients: list[Params] = [drawn(0), drawn(1)]
    for ours, theirs in zip(*(changes(gradients, optimizer=name) for name in ("muon", "adamw")), strict=True):
        share = ours["output"]["bias"][0] / theirs["output"]["bias"][0]  # of the rates: one rises sooner
        found, expected = kernels_and_biases(ours), kernels_and_biases(theirs)
        for mine, others in zip(found[1], expected[1], strict=True):
            np.testing.assert_allclose(mine, share * others, rtol=1e-4)
        pairs = zip(found[0], expected[0], strict=True)
        alike = [np.allclose(mine, share * others, rtol=1e-3) for mine, others in pairs]
        assert alike == [True, False, False, True]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_muons_changes_are_as_long_as_the_rate_says_whatever_the_gradient(size: float):
    gradient = jax.tree.map(lambda leaf: size * leaf, drawn(0))
    change = changes([gradient], optimizer="muon", weight_decay=0.0)[0]
    schedule: Any = make_schedule(resolve("standard", optimizer="muon"), 10)
    for kernel in (change["convs"][1]["kernel"], change["hidden"]["kernel"]):
        assert 0.25 < np.sqrt(np.mean(np.square(kernel))) / float(schedule(0)) < 0.5


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_beta1_is_what_is_kept_of_the_mean_gradient(beta1: float):
    overrides: dict[str, Any] = {"beta1": beta1, "beta2": 0.99, "weight_decay": 0.0}
    made = [change["output"]["bias"] for change in changes([filled(3.0), filled(0.0)], **overrides)]
    schedule: Any = make_schedule(resolve("standard"), 10)
    first, second = float(schedule(0)), float(schedule(1))
    mean, mean_square = beta1 / (beta1 + 1), 0.99 / (0.99 + 1)
    np.testing.assert_allclose(made[0], -first, rtol=1e-4)
    np.testing.assert_allclose(made[1], -second * mean / np.sqrt(mean_square), rtol=1e-4)


@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.95])
def test_beta2_is_what_is_kept_of_the_mean_square(beta2: float):
    overrides: dict[str, Any] = {"beta1": 0.0, "beta2": beta2, "weight_decay": 0.0}
    second = changes([filled(3.0), filled(1.0)], **overrides)[1]["output"]["bias"]
    schedule: Any = make_schedule(resolve("standard"), 10)
    rate = float(schedule(1))
    mean_square = (9 * beta2 + 1) / (beta2 + 1)
    np.testing.assert_allclose(second, -rate / np.sqrt(mean_square), rtol=1e-4)
