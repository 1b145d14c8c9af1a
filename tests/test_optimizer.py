from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits.config import PRESETS, resolve
from jaxdigits.optimizer import make_optimizer, make_schedule


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("updates", [1, 2, 7, 5000])
def test_the_rate_rises_once_to_its_peak_and_ends_near_nothing(preset, updates):
    config = PRESETS[preset]
    rates = np.asarray(jax.jit(jax.vmap(make_schedule(config, updates)))(jnp.arange(updates)))
    assert (rates > 0).all()
    assert rates.max() <= config.learning_rate * (1 + 1e-6)
    turn = rates.argmax()
    assert (np.diff(rates[: turn + 1]) >= 0).all()
    assert (np.diff(rates[turn:]) <= 0).all()
    if updates >= 100:
        assert rates.max() == pytest.approx(config.learning_rate, rel=1e-5)
        assert rates[-1] < 0.05 * config.learning_rate


def test_biases_do_not_decay():
    optimizer = make_optimizer(resolve("standard", weight_decay=0.1), 10)
    params = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)}
    still = {"kernel": jnp.zeros((3, 3)), "bias": jnp.zeros(3)}
    changes: Any = optimizer.update(still, optimizer.init(params), params)[0]
    assert (np.asarray(changes["kernel"]) < 0).all()
    assert (np.asarray(changes["bias"]) == 0).all()
