"""Other ways to train on the same digits, each written afresh from its published recipe.

A peer is a module that opens with its recipe's source and its published figures, and has

    SETTINGS: what was chosen for speed where the recipe leaves it open, for the record;
    train(images, labels, test_images, test_labels, *, seed, epochs=None): an iterator over `Epoch`s.

Images are uint8 [n, 28, 28, 1] and labels uint8 [n], the same arrays for all; `epochs` is the recipe's own
number unless given. What the peers have in common, so that the seconds can be compared:

- `train` first compiles and warms up on other data of the same shapes, then starts anew from the seed;
- the data lie in memory (the device's, where there is one) in the form the recipe wants, before the clock
  starts;
- the clock runs during updates alone, shuffling included, and is read when the device has finished;
- evaluation, off the clock, counts every test image once.
"""

from typing import NamedTuple

from jaxdigits import processor

__all__ = ["Epoch", "multiplies_bfloat16"]


class Epoch(NamedTuple):
    """How far a peer has come at the end of an epoch."""

    train_seconds: float
    """Seconds of training alone, since the first update."""
    test_accuracy: float
    """The share of all test images that are classified rightly, from 0 to 1."""


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that are faster in bfloat16, Arm's included."""
    return processor.multiplies_bfloat16() or "bf16" in processor.instruction_sets()
