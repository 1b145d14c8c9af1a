"""The weights of `jaxdigits.candidates.Weights`, fitted anew: for another model, or for other features.

The weights maximise the likelihood of the right reading of each line: exp of the scores of all paths through
its candidates that spell the truth, as a share of that of all paths, both summed by the forward algorithm
(Lafferty, McCallum and Pereira 2001, "Conditional random fields"). Pages are those of `tests/pages.py`, of
training images that validation holds out, which the packaged model was not trained on. Left out are pages
of which another number of lines was found, and lines that no path spells. What the weights are worth is
measured on other pages of the same images, as `benchmarks.pages` does, beside the weights in use.

    python -m benchmarks.fit_reading [--pages 300] [--check 200] [--model RUN]

It prints the weights; whoever wants them rounds them and writes them into `Weights`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array, Float

from benchmarks.flags import Count, Natural
from benchmarks.pages import digits_of, score, summary_of
from jaxdigits import device
from jaxdigits.candidates import WEIGHTS, Weights, best_path, skip_cost
from jaxdigits.dataset import Split
from jaxdigits.page import ink_of
from jaxdigits.reading import Line, lines_of
from jaxdigits.recognizer import Recognizer, load
from tests.pages import Page, make_page

KEPT = ("distance", "tiny")  # are not fitted: the pages have too few of what they weigh
RIDGE = 1e-3  # of a squared weight, in standard deviations of its feature, against the mean log-likelihood
STEPS = 100  # of L-BFGS: it has converged long before
NEVER = 1e9  # a cost, and its negative a score, that no path can bear; finite, so that gradients are


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Fits the weights of the reading of pages, and prints them."""

    pages: Count = 300
    """How many pages to fit the weights on."""
    check: Count = 200
    """How many other pages to read with them."""
    seed: Natural = 0
    """Decides the pages."""
    model: str | None = None
    """A run folder or a model file; by default the model that comes with the package."""


class Trellis(NamedTuple):
    """Lines as the forward algorithm goes through them, atom by atom; the last atoms are padding.

    Candidates stand by the atom they end at, and by their number of atoms, less 1.
    """

    features: Float[Array, "lines atoms lengths features"]
    scores: Float[Array, "lines atoms lengths"]
    """0 where there is a candidate, and `-NEVER` where there is none; what is not fitted may be added."""
    skips: Float[Array, "lines atoms"]
    """What it costs to pass an atom over."""
    spells: Float[Array, "lines atoms lengths states"]
    """0 where a candidate is read as the digit of the truth that leads to a state, else `-NEVER`."""
    ends: Float[Array, "lines states"]
    """0 where all of the truth is spelt, else `-NEVER`."""


def read_pages(
    digits: Split, recognizer: Recognizer, count: int, seeds: tuple[int, ...]
) -> Iterator[tuple[Page, list[Line]]]:
    """Pages and what was found on them, one after the other."""
    for number in range(count):
        page = make_page(*digits, np.random.default_rng((*seeds, number)))
        yield page, lines_of(ink_of(page.picture), recognizer)


def trellis_of(lines: list[tuple[Line, str]]) -> Trellis:
    """Lines, and what they say, padded to one size."""
    n, width = len(lines), len(Weights._fields)
    atoms = max(len(line.lattice.atoms) for line, _ in lines)
    lengths = max(stop - start for line, _ in lines for start, stop in line.lattice.spans)
    states = 1 + max(len(truth) for _, truth in lines)
    features = np.zeros((n, atoms, lengths, width), np.float32)
    scores = np.full((n, atoms, lengths), -NEVER, np.float32)
    skips = np.zeros((n, atoms), np.float32)
    spells = np.full((n, atoms, lengths, states), -NEVER, np.float32)
    ends = np.full((n, states), -NEVER, np.float32)
    for i, (line, truth) in enumerate(lines):
        starts, stops = np.array(line.lattice.spans).T
        place = (i, stops - 1, stops - starts - 1)
        features[place], scores[place] = line.features, 0
        own = [skip_cost(line.lattice, k) for k in range(len(line.lattice.atoms))]
        skips[i, : len(own)] = np.minimum(own, NEVER)
        right = line.probabilities.argmax(1)[:, None] == np.array(list(truth), int)
        spells[*place, 1 : len(truth) + 1] = np.where(right, 0, -NEVER)
        ends[i, len(truth)] = 0
    return Trellis(*map(jnp.asarray, (features, scores, skips, spells, ends)))


def log_sum(
    scores: Float[Array, "atoms lengths"],
    skips: Float[Array, " atoms"],
    spells: Float[Array, "atoms lengths states"] | None = None,
    ends: Float[Array, " states"] | None = None,
) -> Float[Array, ""]:
    """The logarithm of the sum of exp(score) over all paths through a line, or over those that are right.

    Args:
      scores: of the candidates.
      skips: as in `Trellis`.
      spells: as in `Trellis`; None if all paths count.
      ends: as in `Trellis`.
    """
    states = 1 if spells is None else spells.shape[-1]

    def step(before: jax.Array, here: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, None]:
        """`before`: [lengths, states], of the paths up to 1, 2, ... atoms ago."""
        own, skip, spelt = here
        arriving = before + own[:, None]
        if spelt is not None:  # each candidate is one more digit of the truth
            arriving = jnp.pad(arriving[:, :-1], ((0, 0), (1, 0)), constant_values=-NEVER) + spelt
        now = jax.nn.logsumexp(jnp.concatenate([before[:1] - skip, arriving]), axis=0)
        return jnp.concatenate([now[None], before[:-1]]), None

    start = jnp.full((scores.shape[1], states), -NEVER).at[0, 0].set(0)
    last, _ = jax.lax.scan(step, start, (scores, skips, spells))
    return last[0, 0] if ends is None else jax.nn.logsumexp(last[0] + ends)


def log_likelihoods(weights: Float[Array, " features"], trellis: Trellis) -> Float[Array, " lines"]:
    """Of the right reading of each line; far below 0 where no path is right."""
    scores = trellis.scores + trellis.features @ weights
    right = jax.vmap(log_sum)(scores, trellis.skips, trellis.spells, trellis.ends)
    return right - jax.vmap(log_sum)(scores, trellis.skips)


def fit(trellis: Trellis, initial: Weights = WEIGHTS) -> Weights:
    """The weights under which the right readings are the most probable, by L-BFGS."""
    free = np.array([name not in KEPT for name in Weights._fields])
    spread = trellis.features[trellis.scores == 0].std(0)
    scale = np.where(spread > 0, 1 / np.maximum(spread, 1e-6), 1)  # "digit" does not vary
    kept = jnp.array(np.where(free, 0, initial), jnp.float32)
    step = jnp.array(np.where(free, scale, 0), jnp.float32)
    spelt = jax.jit(log_likelihoods)(jnp.array(initial), trellis) > -NEVER / 2
    chosen = jax.tree.map(lambda values: values[spelt], trellis)

    def weights_of(scaled: jax.Array) -> jax.Array:
        return kept + step * scaled

    def loss(scaled: jax.Array) -> jax.Array:
        return RIDGE * jnp.sum(scaled**2) - jnp.mean(log_likelihoods(weights_of(scaled), chosen))

    solver = optax.lbfgs()
    evaluate = optax.value_and_grad_from_state(loss)

    @jax.jit
    def improved(scaled: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
        value, gradient = evaluate(scaled, state=state)
        updates, state = solver.update(gradient, state, scaled, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(scaled, updates), state  # pyright: ignore[reportReturnType]

    scaled = jnp.array(np.where(free, initial / scale, 0), jnp.float32)
    state = solver.init(scaled)
    for _ in range(STEPS):
        scaled, state = improved(scaled, state)
    return Weights(*np.asarray(weights_of(scaled)).tolist())


def text_of(lines: list[Line], weights: Weights) -> str:
    """What is read with some weights."""
    paths = [(line, best_path(line.lattice, line.features @ np.array(weights))) for line in lines]
    return "\n".join("".join(map(str, line.probabilities[path].argmax(1))) for line, path in paths if path)


def main(arguments: Arguments) -> None:
    """Fits, prints, checks."""
    device.select("auto")
    device.enable_compilation_cache()
    recognizer, digits = load(arguments.model), digits_of("held-out")
    known: list[tuple[Line, str]] = []
    for page, lines in read_pages(digits, recognizer, arguments.pages, (arguments.seed, 0)):
        if len(lines) == len(page.lines):
            known += zip(lines, page.lines, strict=True)
    fitted = fit(trellis_of(known))
    print("\n".join(f"{name}: {value:.3g}" for name, value in zip(Weights._fields, fitted, strict=True)))
    contestants = {"in use": WEIGHTS, "fitted": fitted}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for page, lines in read_pages(digits, recognizer, arguments.check, (arguments.seed, 1)):
        for name, weights in contestants.items():
            runs[name].append(score(page, text_of(lines, weights), 1.0))
    for name in contestants:
        parts = summary_of(runs[name])["all"].items()
        print(f"{name}:", ", ".join(f"{kind} {part['share']:.2%} of {part['n']}" for kind, part in parts))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
