"""A small training on a layout of devices and processes, as a program for the tests to run.

    python -m tests.across OUT DEVICES BATCH [COORDINATOR PROCESSES PROCESS_ID]

DEVICES are the sizes of meshes, such as 1,2,4,8. Process 0 leaves weights, sums and logits in OUT.
"""

import sys

import jax
import numpy as np

from jaxdigits import dataset, distributed
from jaxdigits import mesh as meshes
from jaxdigits.evaluate import Evaluator
from jaxdigits.executor import Executor
from jaxdigits.model import build
from jaxdigits.network_forms import fastest
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import resolve
from jaxdigits.step import Data, epoch_order, init_state, make_update
from tests.conftest import PACKAGED

TRAINED, TESTED = 1003, 333  # images: neither of them divides


def train(mesh, batch_size, split, test):
    """Weights, sums and test logits after an epoch."""
    config = resolve("robust", channels=(4, 8), hidden=32, batch_size=batch_size)
    n, everywhere = len(split.labels), meshes.replicated(mesh)
    # A device by itself takes such in another form.
    form, dtype = fastest(jax.devices("cpu")[0], (16, 64, 96), devices=2)
    network = build(config.channels, config.hidden, 10, form=form, dtype=dtype)
    updates = -(-n // batch_size)
    optimizer = make_optimizer(config, updates)
    order = meshes.divided(mesh, epoch_order(5, 0, n, batch_size, mesh.shape["data"]), None, "data")
    key = jax.jit(jax.random.key, out_shardings=everywhere)(np.uint32(7))
    images, labels = (meshes.resident(mesh, a) for a in (split.images, split.labels.astype(np.int32)))
    data = Data(images, labels, order, key)
    state = jax.jit(lambda p: init_state(p, optimizer), out_shardings=everywhere)(network.init(0))
    drive = Executor.of(make_update(network, optimizer, config, updates), state, data, any_count=True)
    assert "all-gather" not in (drive.compile(updates).as_text() or "")  # devices exchange sums, no images
    evaluator = Evaluator.compile(network, state.params, batch_size=200, portion=16, mesh=mesh)
    program, given = evaluator.program, []

    def one_by_one(*arguments):  # of several CPU devices two calls under way can wait for each other for ever
        assert mesh.size == 1 or all(logits.is_ready() for logits in given)
        given.append(program(*arguments))
        return given[-1]

    evaluator.program = one_by_one
    state = drive(state, data, updates)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
    params, sums = jax.device_get((state.params, state.sums))
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    return named | sums._asdict() | {"logits": evaluator.logits(state.params, test.images)}


def main(out, devices, batch_size, *others):
    if others:
        distributed.start(others[0], int(others[1]), int(others[2]))
    mnist = dataset.load(data_dir=PACKAGED)
    split = dataset.Split(*(a[:TRAINED] for a in mnist.train))
    test = dataset.Split(*(a[:TESTED] for a in mnist.test))
    first = jax.local_devices()[0]
    for size in devices.split(","):
        mesh = meshes.make_mesh(meshes.choose(int(size), first))
        found = train(mesh, int(batch_size), split, test)
        if distributed.first():
            np.savez(f"{out}-{size}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
