"""Imports foreign graphs by the command or publishes them by hand, and steps them alone and on a server."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.cli.command import Finished, statewise
from tests.export.foreign_graphs import ForeignGraph
from tests.helpers.arrays import Array

from statewise.client import Client, ModelInfo

TIMEOUT_S = 400.0
"""Tests that import are long ones; most share their imports."""


def import_graph(repository: Path, name: str, foreign: ForeignGraph, *options: str) -> Finished:
    """Runs `statewise import` on the graph's file, which is written beside the repository."""
    file = foreign.save(repository.with_name(f"{name}.onnx"))
    command: list[str | Path] = ["import", file, "--repository", repository, "--name", name, *options]
    return statewise(*command, timeout_s=TIMEOUT_S)


def publish(repository: Path, name: str, foreign: ForeignGraph, toml: str = "") -> None:
    """Writes version 1 as somebody does who has no importer: the file itself, and a model.toml if any."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    foreign.save(folder / "model.onnx")
    if toml:
        (folder / "model.toml").write_text(toml)


def one_step(
    foreign: ForeignGraph,
    data: Array,
    state: Mapping[str, Array],
    successors: Mapping[str, str],
    *,
    x: str = "x",
    y: str = "y",
) -> Array:
    """Outputs [T, ...] of the file alone, which runs once for each step of `data` [T, ...], from `state`."""
    outputs = []
    for sample in data:
        found = foreign.run({x: sample[None], **state})
        state = {before: found[after] for before, after in successors.items()}
        outputs.append(found[y][0])
    return np.stack(outputs)


def served(client: Client) -> dict[str, ModelInfo]:
    """The models of a server by name; those that failed, too."""
    return {model.name: model for model in client.models()}


def stepped(client: Client, model: str, data: Array) -> Array:
    """Outputs [T, ...] of a session that takes the steps of `data` [T, ...] one at a time."""
    with client.session(model) as session:
        return np.stack([session.step(sample) for sample in data])
