"""A checkpoint folder: what `train` writes, and what resuming and exporting read.

    checkpoint.npz   parameters, optimiser, random numbers, progress: everything to go on bit for bit
    network.json     spec, normalisation, labels, vocabulary, recipe, seed, metrics: readable by eye
    metrics.jsonl    one line an epoch

Not the trainer. Each file is replaced by rename, so a kill at any moment leaves the last whole one.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, CheckpointError, Floats
from statewise.models.networks import Network, NetworkSpec, Normalisation

FORMAT = "statewise-network/1"
ARRAYS, NETWORK, METRICS = "checkpoint.npz", "network.json", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network with what belongs to it.

    Attributes:
        network: In normalised units.
        normalisation: Between raw units and the network's.
        labels: Names of the classes, in the order of the outputs; None where outputs are no classes.
        vocabulary: Tokens and their roles, for networks that read or write text; None for others.
        recipe: Name of the recipe.
        seed: It was trained with.
        metrics: As `train` measured them; empty until training has ended.
        progress: What resuming needs besides arrays, as JSON values.
        arrays: What resuming needs besides the parameters.
    """

    network: Network
    normalisation: Normalisation = field(default_factory=Normalisation)
    labels: tuple[str, ...] | None = None
    vocabulary: dict[str, Any] | None = None
    recipe: str = ""
    seed: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def predict(
        self, x: Array, lengths: npt.ArrayLike | None = None, state: Floats | None = None
    ) -> tuple[Floats, Floats | None]:
        """Run the network on raw units and give raw units back.

        Args:
            x: [T, B, I], or tokens [T, B].
            lengths: [B]; None when every row has T steps.
            state: [B, S]; None for zeros.

        Returns:
            Outputs and final state as `Network.run`; outputs past a row's length are zero.

        Raises:
            ValueError: As `Network.run`.
        """
        y, final = self.network.run(self.normalisation.inputs(x), lengths, state)
        y = self.normalisation.outputs(y)
        if lengths is not None and not self.network.spec.final:
            y[np.arange(y.shape[0])[:, None] >= np.asarray(lengths)] = 0
        return y, final


def save_checkpoint(checkpoint: Checkpoint, directory: str | Path) -> Path:
    """Write a checkpoint folder, made if need be.

    Returns:
        The folder.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {
        "progress": np.array(json.dumps(checkpoint.progress, sort_keys=True)),
        **{f"parameter/{name}": value for name, value in checkpoint.network.parameters.items()},
        **{f"array/{name}": value for name, value in checkpoint.arrays.items()},
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    _replace(folder / ARRAYS, buffer.getvalue())
    described = {
        "format": FORMAT,
        "recipe": checkpoint.recipe,
        "seed": checkpoint.seed,
        "spec": checkpoint.network.spec.to_dict(),
        "dtype": checkpoint.network.dtype.name,
        "normalisation": checkpoint.normalisation.to_dict(),
        "labels": checkpoint.labels,
        "vocabulary": checkpoint.vocabulary,
        "metrics": checkpoint.metrics,
    }
    _replace(folder / NETWORK, (json.dumps(described, indent=2) + "\n").encode())
    return folder


def load_checkpoint(directory: str | Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: A file is missing, damaged, or of another format.
    """
    folder = Path(directory)
    try:
        described = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise CheckpointError(f"{folder / NETWORK}: expected format {FORMAT}, got {described['format']}")
        content = io.BytesIO((folder / ARRAYS).read_bytes())
        with np.load(content, allow_pickle=False) as stored:
            arrays = dict(stored)
        parameters = _below("parameter/", arrays)
        network = Network(NetworkSpec.from_dict(described["spec"]), parameters, dtype=described["dtype"])
        labels = described["labels"]
        return Checkpoint(
            network=network,
            normalisation=Normalisation.from_dict(described["normalisation"]),
            labels=None if labels is None else tuple(labels),
            vocabulary=described["vocabulary"],
            recipe=described["recipe"],
            seed=described["seed"],
            metrics=described["metrics"],
            progress=json.loads(str(arrays["progress"])),
            arrays=_below("array/", arrays),
        )
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: expected a checkpoint folder, {error.filename} is missing"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise CheckpointError(f"{folder}: damaged checkpoint: {error}") from error
    except Exception as error:
        # zipfile.BadZipFile and zlib.error have no common root but Exception.
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: damaged checkpoint: {error}") from error


def _below(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
