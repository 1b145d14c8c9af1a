import jax
import jax.numpy as jnp
import numpy as np

from jaxdigits import executor
from jaxdigits.executor import Executor, Pace
from jaxdigits.network import Form

from .test_step import setup


def drives(mnist, divisions, *, any_count, form: Form = "patches"):
    """The weights after driving as many updates, each time in portions of other sizes."""
    state, data, update = setup(mnist, 200, batch_size=16, form=form)
    drive = Executor.of(update, state, data, any_count=any_count)
    ends = []
    for counts in divisions:
        end = jax.tree.map(jnp.copy, state)  # the executor uses up what it is given
        for count in counts:
            end = drive(end, data, count)
        assert int(end.step) == sum(counts)
        ends.append(jax.tree.leaves((end.params, end.opt_state)))
    return ends


def test_step_by_step_equals_scanned_bit_for_bit(mnist):
    whole, *parts = drives(mnist, [[13], [1] * 13, [5, 8], [12, 1]], any_count=True)
    for part in parts:
        jax.tree.map(np.testing.assert_array_equal, whole, part)


def test_a_compiled_in_count_gives_the_same_weights(mnist):
    (whole,) = drives(mnist, [[13]], any_count=False, form="direct")
    (parts,) = drives(mnist, [[1] * 13], any_count=True)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)


def test_one_compilation_serves_every_count(mnist):
    state, data, update = setup(mnist, 64, batch_size=16)
    drive = Executor.of(update, state, data, any_count=True)
    assert drive.compile(1) is drive.compile(1000)


def test_the_state_is_donated(mnist):
    state, data, update = setup(mnist, 64, batch_size=16)
    drive = Executor.of(update, state, data, any_count=True)
    state = jax.tree.map(jnp.asarray, state)
    before = jax.tree.leaves(state)
    drive(state, data, 1)
    assert all(leaf.is_deleted() for leaf in before)


def test_the_pace_follows_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(executor.time, "perf_counter", lambda: now[0])
    pace = Pace(interval=1.0, deadline=110.0)
    assert pace.updates(500) == 1
    pace.took(1, 0.01)
    assert pace.updates(500) == 100
    assert pace.updates(30) == 30
    now[0] = 109.945
    assert pace.updates(500) == 5
    assert not pace.over
    now[0] = 110.0
    assert pace.over
    assert pace.updates(500) == 1


AS_USERS_HAVE_IT = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
COMPARED = """
import jax, numpy as np
from jaxdigits import dataset, executor
from tests.conftest import PACKAGED
from tests.test_executor import drives

mnist = dataset.load(data_dir=PACKAGED)
(ours,) = drives(mnist, [[8]], any_count=True)
executor.compiler_options = lambda *_: {}
(plain,) = drives(mnist, [[8]], any_count=True)
jax.tree.map(np.testing.assert_array_equal, ours, plain)
"""


def test_how_a_cpu_compiles_changes_no_bit(python):
    done = python("-c", COMPARED, **AS_USERS_HAVE_IT)
    assert done.returncode == 0, done.stderr
