"""Runs `statewise score` and reads the files that it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tests.cli.command import Finished, statewise

Array = NDArray[Any]
Expected = dict[str, list[Array | None]]
"""Outputs of each row by model; None for a row that fails."""
Result = tuple[Any, str | None, Any]
"""Id, error and outputs of a row."""

KINDS = (".npz", ".jsonl", ".parquet")
LENGTHS = np.random.default_rng(1).integers(1, 9, size=9000)


def read(path: Path) -> list[Result]:
    """Reads every row of a file of results."""
    match path.suffix:
        case ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            return [(line["id"], line.get("error"), line.get("outputs")) for line in lines]
        case ".parquet":
            table = pq.read_table(path)
            return list(zip(*(table[name].to_pylist() for name in ("id", "error", "outputs")), strict=True))
        case _:
            with np.load(path) as arrays:
                outputs = arrays["outputs"]
                if "lengths" in arrays:
                    outputs = np.split(outputs, np.cumsum(arrays["lengths"])[:-1])[: len(arrays["ids"])]
                errors = [str(error) or None for error in arrays["errors"]]
                values = [None if error else out for error, out in zip(errors, outputs, strict=True)]
                return list(zip(arrays["ids"].tolist(), errors, values, strict=True))


def command(target: str, source: Path, output: Path) -> tuple[str | Path, ...]:
    """Words of a run of the model `each`."""
    return ("score", "--target", target, "--model", "each", "--input", source, "--output", output)


def score(target: str, model: str, *words: str | Path, stdin: str | None = None) -> Finished:
    """Runs `statewise score` to its end."""
    return statewise("score", "--target", target, "--model", model, *words, stdin=stdin)


def write_lines(path: Path, *lines: Any) -> Path:
    """Writes a .jsonl; a text is a line as it is."""
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path
