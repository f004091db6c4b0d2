"""Implements `statewise demo`: goes from nothing to streamed forecasts, on real data.

The demo uses only what users have: the other subcommands, in child processes, and the client library. It
checks every claim that it prints; the first that does not hold ends it with exit code 1.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from statewise.cli._demo._children import ChildFailed, run_side_by_side, running_server
from statewise.cli._terminal import JsonFlag, exits_on, fail, print_json, stderr_console, stdout_console
from statewise.client import Client, StatewiseError
from statewise.export import ExportError, export_checkpoint, verify_package
from statewise.models import ModelsError, load_dataset
from statewise.models.datasets import LabelledSequences, Series

Array = NDArray[Any]

LEAST_ACCURACY = 0.96
"""Share of the test utterances whose speaker must be found."""


@dataclass(frozen=True)
class Errors:
    """Errors of forecasts of the next sample, on data not trained on, in standard deviations."""

    rmse: float
    persistence_rmse: float


@exits_on(ChildFailed, ExportError, ModelsError, StatewiseError, OSError)
def demo(
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for checkpoints, packages and the server's log.")
    ] = Path(".demo"),
    as_json: JsonFlag = False,
) -> None:
    """Trains two networks on real data, exports and serves them, scores and streams, and checks every claim.

    For example:

      statewise demo

      statewise demo --folder runs/demo --json
    """
    began = time.perf_counter()
    console = stderr_console() if as_json else stdout_console()
    vowels, gait = load_dataset("vowels"), load_dataset("gait")
    assert isinstance(vowels, LabelledSequences)
    assert isinstance(gait, Series)
    folder.mkdir(parents=True, exist_ok=True)

    _print_heading(console, 1, "train", "two LSTMs in NumPy, side by side")
    _train(console, folder, ["vowels", "gait"])
    _print_heading(console, 2, "export", "to ONNX, and compare with NumPy")
    for recipe in ("vowels", "gait"):
        _export(console, folder, recipe)
    _print_heading(console, 3, "serve", "the real server, in a separate process")
    with (
        running_server(folder / "repository", log=folder / "server.log") as address,
        Client(address) as client,
    ):
        _print_line(console, f"listening on {address}")
        _print_heading(
            console, 4, "score", f"{len(vowels.test)} utterances of the vowels test set: who is speaking?"
        )
        accuracy = _score(console, client, vowels)
        _print_heading(
            console, 5, "stream", f"{len(gait.values):,} samples of a walk, one at a time over a session"
        )
        errors = _stream(console, client, gait)
    _print_heading(console, 6, "stop", "by SIGTERM")
    _check(console, True, "the server ended with exit code 0")

    seconds = time.perf_counter() - began
    console.print(f"\nall checks passed, in {seconds:.1f} s; to serve the two models yourself:")
    console.print(f"{_command()} serve --repository {folder / 'repository'}", markup=False, soft_wrap=True)
    if as_json:
        print_json(
            {"seconds": seconds, "accuracy": accuracy, **asdict(errors), "streamed_equals_whole": True}
        )


def _command() -> str:
    """Returns how this command was called, so that users can copy the next one even without it in PATH."""
    called = sys.argv[0]
    return called if Path(called).name == "statewise" else "statewise"


def _train(console: Console, folder: Path, recipes: Sequence[str]) -> None:
    commands = [
        ["train", recipe, "--out", str(folder / recipe), "--overwrite", "--json"] for recipe in recipes
    ]
    with console.status("training"):
        outputs = run_side_by_side(commands)
    for output in outputs:
        result = json.loads(output)
        measured = ", ".join(
            f"{key} {result[key]:.4f}" for key in ("accuracy", "rmse", "baseline_rmse") if key in result
        )
        _print_line(console, f"{result['recipe']}: {measured}, after {result['seconds']:.1f} s")


def _export(console: Console, folder: Path, recipe: str) -> None:
    package = export_checkpoint(folder / recipe, folder / "repository", name=recipe)
    report = verify_package(package, checkpoint=folder / recipe)
    worst = max(
        (check.measured for check in report.checks if check.measured is not None), default=float("nan")
    )
    _check(
        console, report.passed, f"{recipe}/{package.name} equals NumPy within {worst:.0e}; {report.exactness}"
    )


def _score(console: Console, client: Client, data: LabelledSequences) -> float:
    """Classifies the test utterances by speaker; returns the share of correct answers."""
    began = time.perf_counter()
    probabilities = client.predict("vowels", list(data.test))
    seconds = time.perf_counter() - began
    speakers = np.argmax(np.stack(probabilities), axis=1)
    accuracy = float(np.mean(speakers == data.test_labels))
    _print_line(console, f"{len(data.test)} utterances in {1000 * seconds:.0f} ms")
    _check(console, accuracy >= LEAST_ACCURACY, f"accuracy {accuracy:.4f}, at least {LEAST_ACCURACY}")
    return accuracy


def _stream(console: Console, client: Client, data: Series) -> Errors:
    """Steps a session through the recording.

    Checks that its forecasts are better than repeating the last sample, and equal to those of one whole run.
    """
    outputs = []
    began = time.perf_counter()
    with client.session("gait") as session:
        for sample in track(
            data.values,
            description="streaming",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            outputs.append(session.step(sample))
    seconds = time.perf_counter() - began
    streamed = np.stack(outputs)
    _print_line(
        console, f"{len(outputs) / seconds:,.0f} samples a second, each answered before the next was sent"
    )

    errors = Errors(rmse=_rmse(data, streamed[:-1]), persistence_rmse=_rmse(data, data.values[:-1]))
    _check(
        console,
        errors.rmse < errors.persistence_rmse,
        f"error of the next sample: {errors.rmse:.4f}; of repeating the last: {errors.persistence_rmse:.4f}",
    )
    whole = client.predict("gait", data.values)
    _check(
        console,
        streamed.tobytes() == np.asarray(whole).tobytes(),
        f"the {streamed.size:,} streamed numbers equal those of one whole run, bit for bit",
    )
    return errors


def _rmse(data: Series, forecasts: Array) -> float:
    """Computes the error of forecasts [T-1, I] of samples 1 to T-1.

    The error is taken over the test part, in standard deviations of the training part.
    """
    scale = data.values[: data.split].std(axis=0, dtype=np.float64)
    errors = (forecasts - data.values[1:])[data.split - 1 :] / scale
    return float(np.sqrt(np.mean(np.square(errors))))


def _print_heading(console: Console, number: int, step: str, what: str) -> None:
    console.print(f"[bold]{number} {step}[/] {what}")


def _print_line(console: Console, text: str) -> None:
    console.print(f"     {text}", markup=False)


def _check(console: Console, holds: bool, text: str) -> None:
    """Prints a claim with its outcome; ends the demo if the claim does not hold."""
    console.print("  [green]ok[/]" if holds else "  [red]no[/]", escape(text))
    if not holds:
        fail(f"demo: this does not hold: {text}")
