"""Figures to files: the history of a training run, its confusions, its mistakes.

Each figure is one PNG, drawn from plain numbers and written whole or not at all. Nothing is shown on a
screen and no state of matplotlib is touched: no pyplot, no global settings. Left to others: computing
what is shown (`training`, `evaluate`), and in which folder and process it is drawn.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from jaxdigits.storage import atomic_write

if TYPE_CHECKING:  # matplotlib is slow to import; a type does not need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FILES", "FigureName", "confusion", "draw", "history", "mistakes", "warm_up"]

FigureName = Literal["history", "confusion", "mistakes"]
FILES = tuple(f"{name}.png" for name in get_args(FigureName))  # what a run has in its folder
_DPI = 120  # pixels per inch: 7.5 inches fill a page of 900 pixels
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # told apart by the colour-blind: Okabe and Ito 2008
_NUMBERED = 12  # classes: with more, numbers in the cells would be too small to read
_MOST_MISTAKES = 40  # images: five rows of eight
_CELL = (32, 43)  # pixels of an image, which has 28: from one mistake to the next, across and down
_HEAD = 16  # of these: the height of the title
_ENLARGED = 4  # pixels of the figure for each of them


def draw(folder: Path, figure: FigureName, *values: Any) -> None:
    """Draws a figure of this name into a folder, from what its function below takes.

    Raises:
      StorageError: the file cannot be written.
    """
    {"history": history, "confusion": confusion, "mistakes": mistakes}[figure](
        folder / f"{figure}.png", *values
    )


def warm_up() -> None:
    """Imports what drawing needs, and draws a bit of everything: the first figure is as quick as the next."""
    figure = _figure(1, 1)
    axes = figure.subplots()
    axes.plot([1, 2], [1, 2], label="a")
    axes.set_title("a", fontweight="bold")
    axes.imshow(np.eye(2), cmap="Oranges")
    _style_history(axes)
    _encode(figure, io.BytesIO())


def history(path: str | os.PathLike[str], metrics: Sequence[Mapping[str, float]]) -> None:
    """Draws loss and error over the epochs of a run.

    Args:
      path: where the PNG shall lie.
      metrics: one mapping an epoch with `epoch`, `train_loss` and `train_accuracy` (a fraction), and
        `validation_loss` and `validation_accuracy` if there was a validation; other keys are ignored.

    Raises:
      StorageError: the file cannot be written.
    """
    figure = _figure(9, 3.8)
    loss, error = figure.subplots(1, 2)
    loss.set_title("Loss (cross-entropy)", loc="left", fontweight="bold")
    error.set_title("Error (% of images)", loc="left", fontweight="bold")
    for part, colour, marker in (("train", _BLUE, "o"), ("validation", _ORANGE, "s")):
        rows = [row for row in metrics if f"{part}_loss" in row and f"{part}_accuracy" in row]
        if not rows:
            continue
        epochs = [row["epoch"] for row in rows]
        losses = [row[f"{part}_loss"] for row in rows]
        errors = [100 * (1 - row[f"{part}_accuracy"]) for row in rows]
        name = "training" if part == "train" else part
        for axes, values, form in ((loss, losses, "{:.3g}"), (error, errors, "{:.2f}%")):
            label = f"{name}, at the end {form.format(values[-1])}"
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)
    for axes in (loss, error):
        _style_history(axes)
    _save(figure, path)


def _style_history(axes: "Axes") -> None:
    """A log scale where all values allow it, whole epochs below, a light grid, and the legend."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = [float(y) for line in axes.get_lines() for y in np.asarray(line.get_ydata())]
    if values and min(values) > 0 and np.isfinite(values).all():
        axes.set_yscale("log")
        spread = np.log10(max(values) / min(values))
        if spread < 0.5:  # keeps a few labelled ticks in sight, and does not blow up a small change
            axes.set_ylim(min(values) / 1.8, max(values) * 1.8)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if spread < 2 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    epochs = [float(x) for line in axes.get_lines() for x in np.asarray(line.get_xdata())]
    if len(set(epochs)) == 1:
        axes.set_xticks(epochs[:1])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if values:
        axes.legend(frameon=False, fontsize=9)


def confusion(path: str | os.PathLike[str], counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Draws which class was taken for which, and beside it how much of each class was recognised.

    The errors have the colour scale to themselves: next to the diagonal, they would all look like zero.

    Args:
      path: where the PNG shall lie.
      counts: integers [k, k]; row: the true class, column: the predicted one. Legible for k to 62.
      class_names: k of them.

    Raises:
      StorageError: the file cannot be written.
    """
    k = len(counts)
    side = float(np.clip(0.48 * k, 3.6, 8.5))
    figure = _figure(side + 2.4, side + 1.1)
    cells, bars = figure.subplots(1, 2, sharey=True, width_ratios=(side, 1.3))
    right, total = int(np.trace(counts)), int(counts.sum())
    errors = np.where(np.eye(k, dtype=bool), np.nan, counts).astype(float)
    most = max(1.0, float(np.nanmax(errors)))
    picture = cells.imshow(errors, cmap="Oranges", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    cells.imshow(np.where(np.eye(k, dtype=bool), 0.28, np.nan), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if k <= _NUMBERED:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if row != column and counts[row, column] > 0.6 * most else "black"
            text = f"{counts[row, column]:,}"
            form: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}
            cells.text(column, row, text, color=colour, fontsize=9 if len(text) < 5 else 7, **form)
    size = 10 if k <= 30 else 7
    slanted = k > 3 and max(map(len, class_names)) > 3
    slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    cells.set_xticks(range(k), class_names, fontsize=size, **slant)
    cells.set_yticks(range(k), class_names, fontsize=size)
    cells.tick_params(length=0)
    cells.set(xlabel="predicted", ylabel="true")
    cells.set_title(f"{total - right:,} of {total:,} images mistaken", loc="left", fontweight="bold")
    cells.spines[:].set_color("#BBBBBB")
    _recall(bars, counts, size)
    if k > _NUMBERED:
        figure.colorbar(picture, ax=bars, label="errors", fraction=0.25, pad=0.12).outline.set_visible(False)
    _save(figure, path)


def _recall(axes: "Axes", counts: np.ndarray, size: float) -> None:
    """Bars of the share of each class that was recognised; its number at the bar's foot."""
    totals = counts.sum(1)
    recall = 100 * np.diag(counts) / np.maximum(totals, 1)  # percent
    start = max(0.0, np.floor(min(recall[totals > 0], default=100) - 2))
    axes.barh(range(len(counts)), recall, color=_BLUE, alpha=0.3, height=0.72)
    axes.set_xlim(start, 100)
    for row, value in enumerate(recall):
        text = f"{value:.1f}" if totals[row] else "none"
        place = (start + 0.03 * (100 - start), row)
        axes.text(*place, text, va="center", fontsize=size - 1, in_layout=False)
    axes.set_title("recall, %", loc="left", fontsize=10)
    axes.tick_params(length=0, labelleft=False, labelsize=8)
    axes.set_xticks([start, 100])
    axes.spines[:].set_visible(False)


def mistakes(
    path: str | os.PathLike[str],
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    total: int,
) -> None:
    """Draws the images that were read wrongly, the most confident mistakes first, up to 40 of them.

    Args:
      path: where the PNG shall lie.
      images: uint8 [m, 28, 28, 1]; m may be 0.
      labels: the true classes, integers [m].
      predictions: the predicted classes, integers [m].
      probabilities: of the predicted classes, [m], from 0 to 1.
      class_names: the name of each class.
      total: how many images were tested.

    Raises:
      StorageError: the file cannot be written.
    """
    order = np.argsort(-np.asarray(probabilities), kind="stable")[:_MOST_MISTAKES].tolist()
    columns = min(8, max(1, len(order)))
    width, height = max(130, _CELL[0] * columns), _CELL[1] * -(-len(order) // columns) + _HEAD
    head = (
        f"{len(images):,} of {total:,} test images wrong"
        if len(images)
        else f"None of {total:,} test images wrong"
    )
    if len(images) > len(order):
        head += f"; the {len(order)} most confident"
    figure = _figure(width * _ENLARGED / _DPI, height * _ENLARGED / _DPI, layout=None)
    # One pair of axes for all, in pixels of the images, and one picture: forty of each take twice the time.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(width / 2, _HEAD / 2, head, ha="center", va="center", fontweight="bold", fontsize=12)
    size, gap = (10, " ") if max(map(len, class_names)) <= 3 else (8, "\n")
    sheet = np.zeros((height, width), np.uint8)
    frames: list[tuple[float, float]] = []
    for place, i in enumerate(order):
        left = (width - _CELL[0] * columns) // 2 + _CELL[0] * (place % columns) + 2
        top = _HEAD + _CELL[1] * (place // columns) + 5
        right, bottom = left + 28, top + 28
        sheet[top:bottom, left:right] = images[i, :, :, 0]
        frames += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top), (np.nan, np.nan)]
        truth, said = f"is {class_names[int(labels[i])]}", f"read {class_names[int(predictions[i])]}"
        said += f"{gap}({_percent(float(probabilities[i]))})"
        axes.text(left + 14, top - 1, truth, ha="center", va="bottom", color=_BLUE, fontsize=size)
        below: dict[str, Any] = {"ha": "center", "va": "top", "linespacing": 1}
        axes.text(left + 14, bottom + 1.3, said, color=_ORANGE, fontsize=size, **below)
    extent = (0, width, height, 0)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", extent=extent)
    axes.plot(*np.array(frames).reshape(-1, 2).T, color="#BBBBBB", linewidth=0.8)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    _save(figure, path)


def _percent(probability: float) -> str:
    """A probability in whole percent, never rounded up to certainty."""
    return f"{min(99, round(100 * probability))}%" if probability < 1 else "100%"


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """An empty figure, in inches; where constrained, its parts make room for each other's labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")
    if layout:
        figure.set_layout_engine(layout, w_pad=0.09, h_pad=0.09)  # inches
    return figure


def _save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure to a file."""
    with atomic_write(path) as file:
        _encode(figure, file)


def _encode(figure: "Figure", file: IO[bytes]) -> None:
    """A figure as PNG, equal figures as equal bytes.

    It is drawn once; `savefig` draws it twice, the first time to make room for the labels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    picture.save(file, format="png", dpi=(_DPI, _DPI), compress_level=3)
