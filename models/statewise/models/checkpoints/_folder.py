"""Writes checkpoint folders and reads them back.

    checkpoint.npz   parameters, optimiser, random numbers, progress: enough to resume with the same bits
    network.json     spec, normalisation, labels, vocabulary, recipe, seed, metrics: readable by eye
    metrics.jsonl    one line an epoch, written by training

Each file is replaced by rename, so a process killed at any moment leaves the last complete one.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np

from statewise.models.base import Array, CheckpointError
from statewise.models.checkpoints._checkpoint import Checkpoint
from statewise.models.networks import Network, NetworkSpec, Normalisation

FORMAT = "statewise-network/1"
ARRAYS, NETWORK, METRICS = "checkpoint.npz", "network.json", "metrics.jsonl"


def save_checkpoint(checkpoint: Checkpoint, directory: str | Path) -> Path:
    """Writes a checkpoint folder, creating it if needed.

    Returns:
        The folder.

    Raises:
        OSError: A file cannot be written, as on a full disk; the one before is kept.
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
    replace_file(folder / ARRAYS, buffer.getvalue())
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
    replace_file(folder / NETWORK, (json.dumps(described, indent=2) + "\n").encode())
    return folder


def load_checkpoint(directory: str | Path) -> Checkpoint:
    """Reads a checkpoint folder.

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
        parameters = _strip_prefix("parameter/", arrays)
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
            arrays=_strip_prefix("array/", arrays),
        )
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: expected a checkpoint folder, {error.filename} is missing"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise CheckpointError(f"{folder}: damaged checkpoint: {error}") from error
    except Exception as error:
        # zipfile.BadZipFile and zlib.error share no base class but Exception.
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: damaged checkpoint: {error}") from error


def _strip_prefix(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def replace_file(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a process that is killed or a full disk leaves the one before.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
