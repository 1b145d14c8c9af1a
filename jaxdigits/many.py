"""train_many(): an ensemble, or a sweep of seeds and numbers, as one program.

The members differ in their seed and in the numbers of `SWEPT`, which are arguments of the program: it is
compiled once for all of them. They lie along the mesh's axis `model`. An accelerator trains all of its
members side by side, by `vmap`: small models leave most of it idle. A CPU has nothing idle, and trains one
after another, which is the faster way there. Which way it went is part of the result.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxdigits import device as devices
from jaxdigits import mesh as meshes
from jaxdigits.checkpoint import Model
from jaxdigits.compiling import Plan, compile_evaluator, network_of, portion_of
from jaxdigits.config import Preset, TrainConfig, to_json
from jaxdigits.dataset import Split
from jaxdigits.errors import DivergedError, UsageError
from jaxdigits.evaluate import fit_temperature
from jaxdigits.optimizer import make_optimizer
from jaxdigits.presets import resolve
from jaxdigits.rejection import fit_threshold, score
from jaxdigits.splits import load_splits
from jaxdigits.step import (
    Data,
    TrainState,
    epoch_order,
    init_state,
    key_data,
    make_update,
    wrap_key,
    zero_sums,
)
from jaxdigits.whitening import whitened_filters

__all__ = ["SWEPT", "TrainedMany", "train_many"]

SWEPT = ("seed", "learning_rate", "beta1", "beta2", "weight_decay", "label_smoothing")
"""The fields of a configuration in which members may differ."""

_CPU_ABREAST = 1  # members side by side on a CPU device


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedMany:
    """What many trainings leave.

    Attributes:
      models: the trained models, in the order of the members.
      metrics: of each member, what it was (`SWEPT`) and what came of it: `history`, one mapping an epoch
        with loss and accuracy in training, and the figures of `summary.json`.
      way: how the members were trained: `side by side` or `one after another`, on how many devices.
      seconds: of compiling, training and evaluating all.
    """

    models: list[Model]
    metrics: list[dict[str, Any]]
    way: str
    seconds: dict[str, float]


class _Group(NamedTuple):
    """What is of each member alone, for as many as are trained at once: the leading axis of every leaf."""

    state: TrainState
    numbers: dict[str, Any]  # `SWEPT` by name


def train_many(
    members: Sequence[int] | Sequence[TrainConfig],
    config: TrainConfig | Preset = "fast",
    *,
    on_epoch: Callable[[int, dict[str, Any]], None] | None = None,
    say: Callable[[str], None] | None = None,
    **overrides: Any,
) -> TrainedMany:
    """Trains many models of one shape on one data set.

    Example:
      >>> train_many(range(30), "fast").metrics[0]["test_accuracy"]  # doctest: +SKIP
      >>> rates = [resolve("fast", learning_rate=r) for r in (0.01, 0.02)]  # doctest: +SKIP
      >>> train_many(rates)  # doctest: +SKIP

    Args:
      members: seeds, of one configuration each; or configurations, which differ in `SWEPT` alone.
      config: with seeds, the configuration or the name of a preset.
      on_epoch: called with a member's number and its metrics, after each of its epochs.
      say: called with lines for people, such as of a cache that had to be mended.
      **overrides: fields to replace in every member's configuration. `devices` says how many share the
        members. Nothing is written, so `run_dir` has no meaning. Images of no digit are made once, from the
        first member's seed.

    Raises:
      UsageError: there is no member, a field is out of range, or members differ in more than `SWEPT`.
      DataError: the data set cannot be had, or is damaged.
      DeviceError: the devices cannot be had.
      DivergedError: a member's loss is no longer finite.
    """
    chosen = _resolved(members, config, overrides)
    device = devices.select(chosen[0].device, deterministic=chosen[0].deterministic)
    devices.enable_compilation_cache()
    return _Many(chosen, device, say or (lambda _: None)).train(on_epoch)


def _resolved(
    members: Sequence[int] | Sequence[TrainConfig], config: TrainConfig | Preset, overrides: dict[str, Any]
) -> list[TrainConfig]:
    chosen = [
        resolve(member, **overrides)
        if isinstance(member, TrainConfig)
        else resolve(config, **overrides | {"seed": member})
        for member in members
    ]
    if not chosen:
        raise UsageError("train_many needs at least one seed or configuration")
    for field in dataclasses.fields(TrainConfig):
        found = {getattr(member, field.name) for member in chosen}
        if len(found) > 1 and field.name not in SWEPT:
            raise UsageError(
                f"the members differ in {field.name}; they may differ in {', '.join(SWEPT)} alone"
            )
    for name in ("max_seconds", "early_stop", "resume"):
        if getattr(chosen[0], name) is not None:
            raise UsageError(f"train_many trains all members to the end, and anew: leave out {name}")
    return chosen


class _Many:
    """The members' data and program.

    Args:
      members: what to train.
      device: the first device, of the kind that is to be used.
      say: takes lines for people.
    """

    def __init__(self, members: list[TrainConfig], device: devices.Device, say: Callable[[str], None]):
        self.members, config = members, members[0]
        self.began = time.perf_counter()
        self.data = load_splits(config, say)
        self.plan = Plan.of(config, self.data.taught, len(self.data.class_names))
        chosen = meshes.choose(config.devices, device)
        self.mesh = meshes.make_mesh(chosen, models=len(chosen))
        self.platform, on_cpu = device.platform, device.platform == "cpu"
        self.abreast = _CPU_ABREAST if on_cpu else math.ceil(len(members) / len(chosen))  # on each device
        self.group = self.abreast * len(chosen)
        how = "one after another" if self.abreast == 1 else f"side by side, {self.abreast} at a time"
        several = f"{len(chosen)} devices" if len(chosen) > 1 else "one device"
        self.way = f"{how}, on {several}"
        self.network = network_of(config, self.plan.outputs, device)
        self.images, self.labels = self.data.resident(self.mesh)
        stem = (
            None if config.stem == "random" else whitened_filters(self.data.train.images, config.channels[0])
        )
        self.initial = [self.network.init(member.seed, stem) for member in members]
        one = meshes.make_mesh([device])
        self.evaluator = compile_evaluator(network_of(config, self.plan.outputs, device, learning=False), one)

    def _optimizer(self, numbers: dict[str, Any]) -> Any:
        return make_optimizer(_with(self.members[0], numbers), self.plan.updates)

    def _begin(self, params: Any, numbers: dict[str, Any]) -> _Group:
        """A member before its first update."""
        return _Group(init_state(params, self._optimizer(numbers)), numbers)

    def _advance(
        self, member: _Group, order: jax.Array, images: jax.Array, labels: jax.Array, *, count: int
    ) -> _Group:
        """A member after `count` updates of an epoch of this order."""
        config = _with(self.members[0], member.numbers)
        data = Data(images, labels, order, wrap_key(key_data(member.numbers["seed"], jnp.stack)))
        portion = portion_of(self.network, self.platform) if self.abreast == 1 else None
        update = make_update(
            self.network, self._optimizer(member.numbers), config, self.plan.updates, portion
        )
        state = member.state._replace(sums=zero_sums())
        return member._replace(state=jax.lax.fori_loop(0, count, lambda _, state: update(state, data), state))

    def _each(self, function: Callable[..., _Group], own: int, shared: int) -> Callable[..., _Group]:
        """A function of one member, compiled for a group: `own` of its arguments are the member's."""

        def local(*given: Any) -> _Group:
            if self.abreast > 1:
                return jax.vmap(function, in_axes=(*[0] * own, *[None] * shared))(*given)
            # One by itself needs no axis, with which the compiler would take other ways.
            alone = [jax.tree.map(lambda leaf: leaf[0], argument) for argument in given[:own]]
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], function(*alone, *given[own:]))

        specs = (*[P("model")] * own, *[P()] * shared)
        mapped = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=P("model"), check_vma=False)
        return jax.jit(mapped, compiler_options=devices.compiler_options(self.platform, self.mesh.size))

    @functools.cached_property
    def _starting(self) -> Callable[..., _Group]:
        return self._each(self._begin, 2, 0)

    @functools.cache  # noqa: B019  # as long-lived as the one training that it is of
    def _advancing(self, count: int) -> Callable[..., _Group]:
        """The program of an epoch of so many updates: a training has one, or another for its last epoch."""
        return self._each(functools.partial(self._advance, count=count), 2, 2)

    def train(self, on_epoch: Callable[[int, dict[str, Any]], None] | None) -> TrainedMany:
        """Trains group by group, and takes the figures."""
        seconds = {"prepare": time.perf_counter() - self.began, "train": 0.0, "evaluate": 0.0}
        models, metrics = [], []
        for start in range(0, len(self.members), self.group):
            began = time.perf_counter()
            numbers = range(start, min(start + self.group, len(self.members)))
            params, histories = self._train_group(numbers, on_epoch)
            trained = time.perf_counter()
            for number, history in zip(numbers, histories, strict=True):
                own = jax.tree.map(lambda leaf, at=number - start: leaf[at], params)
                model, figures = self._finish(number, own)
                models.append(model)
                metrics.append(figures | {"history": history})
            seconds["train"] += trained - began
            seconds["evaluate"] += time.perf_counter() - trained
        return TrainedMany(models, metrics, self.way, {k: round(v, 3) for k, v in seconds.items()})

    def _train_group(
        self, numbers: range, on_epoch: Callable[[int, dict[str, Any]], None] | None
    ) -> tuple[Any, list[list[dict[str, Any]]]]:
        """The weights of some members on the host, and what each epoch came to."""
        filled = [*numbers, *[numbers[-1]] * (self.group - len(numbers))]  # the last one, until all are busy
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *(self.initial[i] for i in filled))
        swept = {
            name: np.array([getattr(self.members[i], name) for i in filled], kind)
            for name, kind in zip(SWEPT, (np.uint32, *[np.float32] * 5), strict=True)
        }
        group = self._starting(params, swept)
        histories: list[list[dict[str, Any]]] = [[] for _ in numbers]
        n, each, updates = self.plan.images, self.plan.updates_per_epoch, self.plan.updates
        for epoch in range(math.ceil(updates / each)):
            count = min(each, updates - epoch * each)
            chosen = (self.members[number] for number in filled)
            orders = np.stack([epoch_order(one.seed, epoch, n, one.batch_size) for one in chosen])
            group = self._advancing(count)(group, orders, self.images, self.labels)
            sums = jax.device_get(group.state.sums)  # waits for the devices
            for number, history, *own in zip(
                numbers, histories, *(s[: len(numbers)] for s in sums), strict=True
            ):
                loss, correct, images = map(float, own)
                if not math.isfinite(loss):
                    rate = self.members[number].learning_rate
                    raise DivergedError(
                        f"the loss of member {number} is no longer finite in epoch {epoch + 1}; "
                        f"lower its learning_rate, which is {rate:g}"
                    )
                history.append(
                    {"epoch": epoch + 1, "train_loss": loss / images, "train_accuracy": correct / images}
                )
                if on_epoch:
                    on_epoch(number, history[-1])
        return jax.device_get(group.state.params), histories

    def _finish(self, number: int, params: Any) -> tuple[Model, dict[str, Any]]:
        """A member's model and figures."""
        config, data = self.members[number], self.data

        def measure(split: Split, views: int = 1) -> Any:
            found = self.evaluator(params, split.images, split.labels, views)
            return dataclasses.replace(found, none_class=none_class)

        none_class, threshold = config.non_digits > 0, None
        temperature, figures = 1.0, {name: getattr(config, name) for name in SWEPT}
        if data.validation is not None:
            held_out = measure(data.validation, config.views)
            temperature = fit_temperature(held_out)
            threshold = fit_threshold(score(held_out.logits, temperature, none_class))
            figures |= {
                "validation_accuracy": held_out.accuracy,
                "validation_loss": held_out.at(temperature).loss,
            }
        test = measure(data.test, config.views).at(temperature)
        figures |= {
            "test_accuracy": test.accuracy,
            "test_correct": test.correct,
            "test_total": test.total,
            "test_calibration_error": test.calibration_error,
        }
        sizes = (config.channels, config.hidden, config.views, temperature)
        fields = to_json(config)
        model = Model(
            params,
            *sizes,
            data.class_names,
            data.name,
            fields,
            figures,
            none_class=none_class,
            threshold=threshold,
        )
        return model, figures


def _with(config: TrainConfig, numbers: dict[str, Any]) -> TrainConfig:
    """A configuration some of whose numbers are known only when the program runs."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return cast(TrainConfig, SimpleNamespace(**fields | numbers))
