"""One peer trained once, as a contestant of `benchmarks.protocol`: a process that prints a JSON object.

    python -m benchmarks.peers.contestant pytorch_one_epoch --seed 0

The last line holds the peer, the seed, the cumulative training seconds and the test accuracy after each
epoch, how long before the end that was known, the number of threads and the peer's settings. A peer whose
package is missing is skipped, without an error.
"""

import argparse
import importlib
import importlib.util
import json
import math
import os
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from jaxdigits.dataset import load

__all__ = ["PEERS", "Peer", "PeerName", "main"]


class Peer(NamedTuple):
    """Where a peer is found, and what it needs."""

    module: str
    """The module's name in `benchmarks.peers`."""
    packages: tuple[str, ...] = ()
    """What must be installed beyond this library."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables to set before the module is imported."""


PeerName = Literal[
    "pytorch_one_epoch", "pytorch_example", "flax_example", "keras_origin_tensorflow", "keras_origin_jax"
]
PEERS: dict[PeerName, Peer] = {
    "pytorch_one_epoch": Peer("pytorch_one_epoch", ("torch",)),
    "pytorch_example": Peer("pytorch_example", ("torch",)),
    "flax_example": Peer("flax_example"),
    "keras_origin_tensorflow": Peer(
        "keras_origin",
        ("keras", "tensorflow"),
        (("KERAS_BACKEND", "tensorflow"), ("TF_CPP_MIN_LOG_LEVEL", "2")),
    ),
    "keras_origin_jax": Peer("keras_origin", ("keras",), (("KERAS_BACKEND", "jax"),)),
}


def _run(name: PeerName, seed: int, epochs: int | None, until: float) -> dict[str, Any]:
    """Trains a peer, until an epoch ends with such a test accuracy; returns what is to be printed."""
    peer = PEERS[name]
    for package in peer.packages:
        if importlib.util.find_spec(package) is None:
            return {"peer": name, "skipped": f"{package} is not installed"}
    os.environ.update(peer.variables)
    module = importlib.import_module(f"benchmarks.peers.{peer.module}")
    data = load("mnist")
    course, measured = [], []
    for epoch in module.train(*data.train, *data.test, seed=seed, epochs=epochs):
        course.append(epoch)
        measured.append(time.perf_counter())
        if epoch.test_accuracy >= until:
            break
    return {
        "peer": name,
        "seed": seed,
        "train_seconds": [round(epoch.train_seconds, 4) for epoch in course],
        "test_accuracy": [epoch.test_accuracy for epoch in course],
        "seconds_before_end": [round(measured[-1] - then, 4) for then in measured],
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "settings": module.SETTINGS,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.contestant", description="Trains a peer."
    )
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's own number")
    parser.add_argument("--until", type=float, default=math.inf, help="a test accuracy at which to stop")
    given = parser.parse_args(arguments)
    if given.epochs is not None and given.epochs < 1:
        parser.error(f"--epochs must be at least 1, not {given.epochs}")
    print(json.dumps(_run(given.peer, given.seed, given.epochs, given.until)))


if __name__ == "__main__":
    main()
