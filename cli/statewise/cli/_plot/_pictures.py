"""Draws figures from arrays, without a screen.

Every picture is a separate figure: the global state of matplotlib stays unchanged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

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


def draw_gates(values: Mapping[str, NDArray[Any]], ticks: Sequence[str] | None) -> Figure:
    """Draws gates and states over time, one panel each.

    Args:
        values: [T, H] by the letter of the gate or state.
        ticks: Label of each step; None: the number of the step.
    """
    figure = Figure(figsize=(9, 1.4 * len(values) + 1), layout="constrained")
    panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, value) in zip(panels, values.items(), strict=True):
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
        )
        panel.set_ylabel("unit")
        panel.set_title(_NAMES.get(name, name), fontsize="medium", loc="left")
        figure.colorbar(image, ax=panel, pad=0.01)
    panels[-1].set_xlabel("time step")
    if ticks is not None:
        panels[-1].set_xticks(range(len(ticks)), ticks)
        panels[-1].set_xlabel("read")
    return figure


def draw_gradients(norms: Mapping[str, NDArray[Any]]) -> Figure:
    """Draws the norms of gradients with respect to the states s_0 to s_T, one line each.

    Args:
        norms: [T + 1] by the label of the line.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    panel = figure.subplots()
    for label, values in norms.items():
        panel.plot(range(len(values) - 1, -1, -1), values, label=label)
    panel.set_yscale("log")
    panel.set_xlabel("steps before the loss")
    panel.set_ylabel("norm of the gradient with respect to the state")
    panel.grid(visible=True, alpha=0.3)
    panel.legend()
    return figure


def draw_curves(measured: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]) -> Figure:
    """Draws metrics epoch by epoch, one panel for each metric.

    Args:
        measured: Epochs and values by metric, then by run.
    """
    figure = Figure(figsize=(8, 2.8 * len(measured)), layout="constrained")
    panels = figure.subplots(len(measured), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, runs) in zip(panels, measured.items(), strict=True):
        for label, (epochs, values) in runs.items():
            panel.plot(epochs, values, label=label)
        panel.set_ylabel(name.replace("_", " "))
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend()
    panels[-1].set_xlabel("epoch")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure.

    Raises:
        OSError: The file cannot be written.
    """
    if path.suffix not in _SUFFIXES:
        raise typer.BadParameter(f"expected a name ending in {', '.join(_SUFFIXES)}", param_hint="--output")
    figure.savefig(path, dpi=150)
