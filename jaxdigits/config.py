"""What a training run is asked to do: one frozen dataclass.

The command line is made from these fields and their descriptions; a run folder keeps them as
`config.json`. Values of it that have a name are in `presets`. How they turn into an optimizer, a model or a
device is left to those modules.
"""

import dataclasses
import math
import os
import sys
from typing import Any, Literal, Optional, Union, get_args

from jaxdigits.errors import UsageError
from jaxdigits.fields import Sizes, check, nameable, sizes, typed

__all__ = [
    "Devices",
    "Optimizer",
    "Preset",
    "Stem",
    "TrainConfig",
    "differences",
    "peak_rate",
    "to_json",
]

Preset = Literal["fast", "standard", "gpu", "robust", "large_batch"]
Stem = Literal["whitened", "tuned", "random"]
Optimizer = Literal["adamw", "muon"]
Devices = Union[int, Literal["all"], None]

_REFERENCE_BATCH = 64  # images per update, for which a learning rate is meant
_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 65_536),
    "max_shift": (0, 14),
    "max_scale": (0, 0.9),
    "max_shear": (0, 0.9),
    "max_slant": (0, 0.9),
    "max_bend": (0, 14),
    "stretch": (0, 1),
    "hands": (0, 1),
    "ink": (0, 1),
    "damage": (0, 1),
    "calming": (0, 1),
    "non_digits": (0, 100_000),
    "hidden": (1, 65_536),
    "seed": (0, 2**32 - 1),
}  # of fields whose bounds are both allowed; the others are checked one by one


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Fields of another type or out of range raise `UsageError` when it is made."""

    preset: Preset = "standard"
    """The set of defaults to start from; every other flag overrides it."""
    epochs: float = 13.0
    """Passes over the training images; the last one may be a part of one, as in 0.6."""
    batch_size: int = 256
    """Images per update."""
    optimizer: Optimizer = "muon"
    """What turns gradients into changes: Muon, for the kernels between the first and the last, or AdamW."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle schedule at 64 images per update; it grows with their square root."""
    beta1: float = 0.9
    """How much of the running mean of the gradients each update keeps."""
    beta2: float = 0.99
    """AdamW: the same of their squares. A short run has no time to average over thousands."""
    weight_decay: float = 0.4
    """Decoupled weight decay, per unit of learning rate; not for biases."""
    label_smoothing: float = 0.05
    """Share of the target probability that is spread over all classes."""
    max_shift: float = 2.0
    """Augmentation: largest random shift, in pixels, along each axis."""
    max_scale: float = 0.1
    """Augmentation: largest random change of width and of height, as a share of it."""
    max_shear: float = 0.15
    """Augmentation: largest random slant, in pixels per pixel; rotates by the like angle in radians."""
    max_slant: float = 0.0
    """Augmentation: largest random slant of the rows alone, as of italics, in pixels per pixel."""
    max_bend: float = 0.0
    """Augmentation: largest random elastic distortion, in pixels."""
    stretch: float = 0.0
    """Augmentation: probability of another aspect, up to that of a digit that fills a square box."""
    hands: float = 0.0
    """Augmentation: probability of an upstroke on a 1, and of a bar through a 7."""
    ink: float = 0.0
    """Augmentation: probability of other strokes, of blur, of another contrast, each by itself."""
    damage: float = 0.0
    """Augmentation: probability of bars, edges, uneven paper, grain and lost pixels, each by itself."""
    calming: float = 0.0
    """Augmentation: the share of its strength that it loses, evenly, by the end of the training."""
    non_digits: int = 0
    """Made images of what is no digit, to be learned as a class of their own: see `nondigits`."""
    channels: Sizes = Sizes((16, 64, 96))
    """Output channels of the convolutions."""
    stem: Stem = "tuned"
    """First convolution: filters that whiten the training images' patches, kept; or trained on from there;
    or drawn at random and trained."""
    hidden: int = 128
    """Units of the hidden dense layer."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network's products; weights and sums stay float32. By itself, bfloat16 on one
    device that is faster in it (a CPU with AMX, an AMD with AVX-512 BF16, an NVIDIA GPU from Ampere on),
    else float32."""
    views: int = 9
    """Test-time augmentation: averages the answer over the image and its shifts by a pixel; 1, 5 or 9."""
    seed: int = 0
    """Decides every random choice of the run: weights, order of the images, augmentation."""
    dataset: str = "mnist"
    """A TFDS classification set of 28x28 grey images: mnist, fashion_mnist, kmnist, emnist/letters, ..."""
    data_dir: Optional[str] = None
    """A folder with the set's four IDX files, gzipped or plain, to read instead."""
    validation: int = 2500
    """Training images held out to measure each epoch on, at most a quarter of all; never trained on."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to run: the GPU if there is one, the CPU, or a GPU and nothing else."""
    devices: Devices = None
    """How many devices share each batch, over all processes, or all; by default one, or all of several
    processes. The weights do not depend on it, but for rounding."""
    deterministic: bool = False
    """Asks a GPU for bit-identical results from run to run, which a CPU gives anyway."""
    run_dir: Optional[str] = None
    """Folder of this run, new or empty. By default a new one under runs/."""
    plots: bool = True
    """Draws the figures of the run into its folder."""
    resume: Optional[str] = None
    """Goes on with an interrupted run: its folder; or auto, for --run-dir or else the newest under runs/."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints within an epoch; the end of an epoch has one too."""
    early_stop: Optional[int] = None
    """Ends training after this many epochs without a better validation, and keeps the best weights."""
    max_updates: Optional[int] = None
    """Shortens the training, schedule and all, to this many updates; less than an epoch will do."""
    max_seconds: Optional[float] = None
    """Ends training with the update that passes this many seconds since the command began, and saves."""
    smoke: bool = False
    """Takes the whole path in a few seconds: one epoch of 2,048 images, 1,024 to test."""

    @property
    def mesh(self) -> dict[str, Devices]:
        """The axes of the run's mesh and how many devices lie along each: see `jaxdigits.mesh`."""
        return {"data": self.devices, "model": 1}

    def updates(self, per_epoch: int) -> int:
        """How many updates the whole training has, where an epoch has `per_epoch`; 1 or more."""
        return min(max(1, round(self.epochs * per_epoch)), self.max_updates or sys.maxsize)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, typed(field, getattr(self, field.name)))
        if self.smoke:
            object.__setattr__(self, "epochs", 1.0)
        for name, (low, high) in _RANGES.items():
            check(name, getattr(self, name), low <= getattr(self, name) <= high, f"{low:g} to {high:.10g}")
        check("epochs", self.epochs, 0 < self.epochs <= 100_000, "above 0, at most 100000")
        presets = get_args(Preset)
        check("preset", self.preset, self.preset in presets, f"one of {', '.join(presets)}")
        optimizers = get_args(Optimizer)
        check("optimizer", self.optimizer, self.optimizer in optimizers, "adamw or muon")
        check("learning_rate", self.learning_rate, 0 < self.learning_rate <= 1e9, "above 0, at most 1e9")
        check("beta1", self.beta1, 0 <= self.beta1 < 1, "0 to below 1")
        check("beta2", self.beta2, 0 <= self.beta2 < 1, "0 to below 1")
        check("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "0 or more")
        check("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "0 to below 1")
        check("channels", self.channels, sizes(self.channels, 2, 4), "2 to 4 numbers from 1 to 4096")
        check("stem", self.stem, self.stem in get_args(Stem), f"one of {', '.join(get_args(Stem))}")
        check("dtype", self.dtype, self.dtype in ("auto", "float32", "bfloat16"), "auto, float32 or bfloat16")
        check("views", self.views, self.views in (1, 5, 9), "1, 5 or 9")
        for field in ("dataset", "data_dir", "run_dir"):
            check(field, getattr(self, field), nameable(getattr(self, field)), "a name that a file may have")
        check("validation", self.validation, self.validation >= 0, "0 or more")
        check("device", self.device, self.device in ("auto", "cpu", "gpu"), "auto, cpu or gpu")
        several = self.devices
        valid = several in (None, "all") or (type(several) is int and several >= 1)
        check("devices", several, valid, "1 or more, or all")
        most = self.max_updates
        check("max_updates", most, most is None or 1 <= most <= 2**31 - 1, "1 or more")
        limit = self.max_seconds
        check("max_seconds", limit, limit is None or 0 < limit < math.inf, "above 0")
        check(
            "checkpoint_seconds",
            self.checkpoint_seconds,
            0 <= self.checkpoint_seconds < math.inf,
            "0 or more",
        )
        check("resume", self.resume, self.resume != "", "a run folder, or auto")
        patience = self.early_stop
        check("early_stop", patience, patience is None or 1 <= patience <= 100_000, "1 to 100000")
        if patience is not None and not self.validation:
            raise UsageError("--early-stop needs images to validate on; give --validation, say 2500")


def peak_rate(learning_rate: float, batch_size: int) -> float:
    """The highest learning rate of a run: it grows with the square root of the global batch.

    The rule for Adam, whose steps are as long as its gradients are noisy (Krizhevsky 2014, "One weird trick
    for parallelizing convolutional neural networks"; Malladi et al. 2022, "On the SDEs and scaling rules for
    adaptive gradient algorithms"). The schedule is one of shares of the updates, and follows by itself.

    Args:
      learning_rate: that of the configuration, for 64 images per update.
      batch_size: images per update, on all devices together.

    >>> peak_rate(0.003, 256)
    0.006
    """
    return learning_rate * math.sqrt(batch_size / _REFERENCE_BATCH)


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The fields of a run, as JSON values. Where it lies, and whether it goes on, are none of them."""
    fields = dataclasses.asdict(config)
    del fields["run_dir"], fields["resume"]
    if config.data_dir is not None:
        fields["data_dir"] = os.path.abspath(os.path.expanduser(config.data_dir))  # noqa: PTH100, PTH111 (never raise)
    return fields | {"channels": list(config.channels)}


def differences(begun: TrainConfig, now: TrainConfig) -> list[str]:
    """The fields in which two configurations ask for another result.

    A device is none: a run may go on elsewhere, and on more or fewer. Nor is how often it is saved, or drawn.
    """
    before, after = to_json(begun), to_json(now)
    return [name for name in before if before[name] != after[name] and name not in _FREE]


_FREE = ("device", "devices", "checkpoint_seconds", "plots")
