"""Draws figures from arrays, without a screen.

Every picture is a separate figure: the global state of matplotlib stays unchanged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

_BASELINE = "baseline_"
_MOST_NAMES = 4  # of runs in a title
_SUFFIXES = (".png", ".svg", ".pdf")
_NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "o": "output gate o",
    "g": "candidate g",
    "z": "update gate z",
    "r": "reset gate r",
    "n": "candidate n",
    "h": "hidden state h",
    "c": "cell state c",
}


def draw_gates(
    values: Mapping[str, NDArray[Any]], ticks: Sequence[str] | None, title: str = "gates and states"
) -> Figure:
    """Draws gates and states over time, one panel each, two side by side.

    Args:
        values: [T, H] by the letter of the gate or state.
        ticks: Label of each step; None: the number of the step, from 1.
        title: Title of the picture.
    """
    columns = min(2, len(values))
    rows = -(-len(values) // columns)
    figure = Figure(figsize=(5.5 * columns, 1.9 * rows + 0.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in panels[len(values) :]:
        panel.remove()
    for panel, (name, value) in zip(panels, values.items(), strict=False):
        # Sigmoid gates lie in 0 to 1. States and candidates may be negative: their colours are centred on 0.
        signed = name in "gnhc"
        bound = float(abs(value).max()) or 1.0
        image = panel.imshow(
            value.T,
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if signed else "viridis",
            vmin=-bound if signed else 0,
            vmax=bound if signed else 1,
            extent=(
                0.5,
                len(value) + 0.5,
                value.shape[1] + 0.5,
                0.5,
            ),  # a step or unit is centred on its number
        )
        panel.set_ylabel("unit")
        panel.set_title(_NAMES.get(name, name), fontsize="medium", loc="left")
        panel.xaxis.set_major_locator(_whole_numbers())
        panel.yaxis.set_major_locator(_whole_numbers())
        figure.colorbar(image, ax=panel, pad=0.01)
    for panel in panels[max(0, len(values) - columns) : len(values)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("time step" if ticks is None else "read")
        if ticks is not None:
            panel.set_xticks(range(1, len(ticks) + 1), ticks)
    return figure


def draw_gradients(norms: Mapping[str, NDArray[Any]], title: str = "gradients through time") -> Figure:
    """Draws the norms of gradients with respect to the states s_0 to s_T, one line each.

    Args:
        norms: [T + 1] by the label of the line.
        title: Title of the picture.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    panel = figure.subplots()
    panel.set_title(title)
    for label, values in norms.items():
        panel.plot(range(len(values) - 1, -1, -1), values, label=label)
    panel.set_yscale("log")
    panel.set_xlabel("steps before the loss")
    panel.set_ylabel("norm of the gradient with respect to the state")
    panel.xaxis.set_major_locator(_whole_numbers())
    panel.grid(visible=True, alpha=0.3)
    panel.legend()
    return figure


def draw_curves(measured: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]) -> Figure:
    """Draws metrics epoch by epoch: a panel for each metric, in it its baseline as a dashed line.

    Args:
        measured: Epochs and values by metric, then by run; that of a baseline has `baseline_` in its name.
    """
    panels_of = [name for name in measured if _metric_of(name) not in measured or _metric_of(name) == name]
    runs = dict.fromkeys(run for by_run in measured.values() for run in by_run)
    colours = {run: f"C{number}" for number, run in enumerate(runs)}
    figure = Figure(figsize=(8, 2.4 * len(panels_of) + 0.8), layout="constrained")
    figure.suptitle(f"training of {', '.join(runs) if len(runs) <= _MOST_NAMES else f'{len(runs)} runs'}")
    panels = figure.subplots(len(panels_of), 1, sharex=True, squeeze=False)[:, 0]
    for panel, metric in zip(panels, panels_of, strict=True):
        for name in (name for name in measured if name == metric or _metric_of(name) == metric):
            baseline = _BASELINE in name
            for run, (epochs, values) in measured[name].items():
                panel.plot(
                    epochs,
                    values,
                    color=colours[run],
                    linestyle="--" if baseline else "-",
                    marker="o" if len(epochs) == 1 else None,
                    label=f"{run}, baseline" if baseline else run,
                )
        panel.set_ylabel(metric.replace("_", " "))
        panel.xaxis.set_major_locator(_whole_numbers())
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize="small")
    panels[-1].set_xlabel("epoch")
    return figure


def _metric_of(name: str) -> str:
    """Returns the metric that a baseline is compared with; other names are their own."""
    return name.replace(_BASELINE, "")


def _whole_numbers() -> MaxNLocator:
    """Ticks of an axis that counts. Each axis needs a locator of its own."""
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def save(figure: Figure, path: Path) -> None:
    """Writes a figure.

    Raises:
        OSError: The file cannot be written.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"expected a name ending in {', '.join(_SUFFIXES)}", param_hint="--output")
    figure.savefig(path, dpi=150)
