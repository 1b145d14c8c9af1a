"""Many trainings as one program are the trainings that they would be one by one."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxdigits import Ensemble, Recognizer, UsageError, train, train_many
from jaxdigits import many as module
from jaxdigits.presets import resolve

from .conftest import PACKAGED
from .test_training import small_set

SMOKE = {"smoke": True, "data_dir": str(PACKAGED)}


@pytest.fixture(scope="module")
def trained():
    return train_many([0, 1], "fast", **SMOKE)


def apart(a, b):
    """How far each weight of two models lies from the other's."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return np.concatenate([np.abs(x - y).ravel() for x, y in pairs])


@pytest.mark.parametrize(("updates", "seed"), [(1, 0), (2, 1)])
def test_a_member_is_what_a_training_by_itself_gives(tmp_path, seed, updates):
    some: dict[str, Any] = SMOKE | {"max_updates": updates, "dtype": "float32", "batch_size": 128}
    alone = train("fast", run_dir=str(tmp_path / "run"), seed=seed, **some)
    member = train_many([seed], "fast", **some)
    # Those of another seed are 0.3 away. A last bit between the two programs grows with every update, in the
    # few weights for which Adam divides by nearly nothing.
    assert apart(member.models[0].params, alone.model.params).max() < {1: 1e-8, 2: 2e-5}[updates]
    for figure in ("test_correct", "test_total"):
        assert member.metrics[0][figure] == alone.summary[figure]


def test_members_are_told_apart(trained):
    assert [metrics["seed"] for metrics in trained.metrics] == [0, 1]
    assert trained.way == "one after another, on one device"


def test_members_differ_by_their_seeds(trained):
    first, second = (jax.tree.leaves(model.params)[-1] for model in trained.models)
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_side_by_side_is_one_after_another(tmp_path, monkeypatch):
    small = {"data_dir": str(small_set(tmp_path)), "epochs": 1, "batch_size": 16, "dtype": "float32"}
    rates = [resolve("fast", learning_rate=rate, **small) for rate in (0.001, 0.01, 0.003)]
    alone = train_many(rates)
    monkeypatch.setattr(module, "_CPU_ABREAST", 2)  # as on an accelerator; the last one has none beside it
    abreast = train_many(rates)
    assert "side by side, 2 at a time" in abreast.way
    for one, other, rate in zip(alone.models, abreast.models, (0.001, 0.01, 0.003), strict=True):
        # A last bit between the two ways grows with every update, as above: here in thirteen.
        assert np.quantile(apart(one.params, other.params), 0.98) < 1e-3
        assert one.config["learning_rate"] == rate
    assert [len(metrics["history"]) for metrics in abreast.metrics] == [1, 1, 1]
    run = train(rates[2], run_dir=str(tmp_path / "run"))
    assert np.quantile(apart(run.model.params, alone.models[2].params), 0.98) < 1e-4


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one"),
        ([resolve("fast"), resolve("fast", epochs=2)], "differ in epochs"),
        ([resolve("fast", max_seconds=3.0)], "leave out max_seconds"),
        ([-1], "seed"),
    ],
)
def test_members_that_cannot_be_trained_together(members, message):
    with pytest.raises(UsageError, match=message):
        train_many(members)


def test_an_ensemble_averages_probabilities(trained, mnist):
    images = mnist.test.images[:50]
    each = [Recognizer(model).probabilities(images) for model in trained.models]
    ensemble = Ensemble(trained.models)
    np.testing.assert_allclose(ensemble.probabilities(images), np.mean(each, axis=0), atol=1e-6)
    predicted = ensemble.predict_all(images)
    np.testing.assert_array_equal(predicted.digits, np.mean(each, axis=0).argmax(axis=1))
    with pytest.raises(UsageError, match="at least one"):
        Ensemble([])
