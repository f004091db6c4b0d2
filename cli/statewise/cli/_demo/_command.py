"""`statewise demo`: the whole way on real data, from nothing to streamed forecasts.

It uses what a user would use: the command in child processes, and the client library. Every claim it prints
is checked; the first that does not hold ends it with 1.
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
from statewise.cli._terminal import JsonFlag, expects, fail, print_json, remarks, results
from statewise.client import Client, StatewiseError
from statewise.export import ExportError, export_checkpoint, verify_package
from statewise.models import ModelsError, load_dataset
from statewise.models.datasets import LabelledSequences, Series

Array = NDArray[Any]

LEAST_ACCURACY = 0.96


@dataclass(frozen=True)
class Errors:
    """Of the next sample, over the part that was not trained on, in standard deviations."""

    rmse: float
    persistence_rmse: float


@expects(ChildFailed, ExportError, ModelsError, StatewiseError, OSError)
def demo(
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps checkpoints, packages and the server's log.")
    ] = Path(".demo"),
    as_json: JsonFlag = False,
) -> None:
    """Trains two networks on real data, exports, serves, scores and streams them, and checks every claim.

    For example:

      statewise demo

      statewise demo --folder runs/demo --json
    """
    began = time.perf_counter()
    console = remarks() if as_json else results()
    vowels, gait = load_dataset("vowels"), load_dataset("gait")
    assert isinstance(vowels, LabelledSequences)
    assert isinstance(gait, Series)
    folder.mkdir(parents=True, exist_ok=True)

    _heading(console, 1, "train", "two LSTMs in NumPy, side by side")
    _train(console, folder, ["vowels", "gait"])
    _heading(console, 2, "export", "to ONNX, and compare with NumPy")
    for recipe in ("vowels", "gait"):
        _export(console, folder, recipe)
    _heading(console, 3, "serve", "the real server, in a process of its own")
    with (
        running_server(folder / "repository", log=folder / "server.log") as address,
        Client(address) as client,
    ):
        _say(console, f"listening on {address}")
        _heading(console, 4, "score", f"{len(vowels.test)} utterances of the vowels test set: who speaks?")
        accuracy = _score(console, client, vowels)
        _heading(
            console, 5, "stream", f"{len(gait.values):,} samples of a walk, one at a time over a session"
        )
        errors = _stream(console, client, gait)
    _heading(console, 6, "stop", "by SIGTERM")
    _claim(console, True, "the server ended with exit code 0")

    seconds = time.perf_counter() - began
    console.print(f"\nall of it held, in {seconds:.1f} s; to serve the two yourself:")
    console.print(f"{_command()} serve --repository {folder / 'repository'}", markup=False, soft_wrap=True)
    if as_json:
        print_json(
            {"seconds": seconds, "accuracy": accuracy, **asdict(errors), "streamed_equals_whole": True}
        )


def _command() -> str:
    """How this command was called, so that the next one can be copied also where no PATH has it."""
    called = sys.argv[0]
    return called if Path(called).name == "statewise" else "statewise"


def _train(console: Console, folder: Path, recipes: Sequence[str]) -> None:
    commands = [["train", recipe, "--out", str(folder / recipe), "--json"] for recipe in recipes]
    with console.status("training"):
        outputs = run_side_by_side(commands)
    for output in outputs:
        result = json.loads(output)
        measured = ", ".join(
            f"{key} {result[key]:.4f}" for key in ("accuracy", "rmse", "baseline_rmse") if key in result
        )
        _say(console, f"{result['recipe']}: {measured}, after {result['seconds']:.1f} s")


def _export(console: Console, folder: Path, recipe: str) -> None:
    package = export_checkpoint(folder / recipe, folder / "repository", name=recipe)
    report = verify_package(package, checkpoint=folder / recipe)
    worst = max(
        (check.measured for check in report.checks if check.measured is not None), default=float("nan")
    )
    _claim(
        console, report.passed, f"{recipe}/{package.name} equals NumPy within {worst:.0e}; {report.exactness}"
    )


def _score(console: Console, client: Client, data: LabelledSequences) -> float:
    """Share of the test utterances whose speaker is found."""
    began = time.perf_counter()
    probabilities = client.predict("vowels", list(data.test))
    seconds = time.perf_counter() - began
    found = np.argmax(np.stack(probabilities), axis=1)
    accuracy = float(np.mean(found == data.test_labels))
    _say(console, f"{len(data.test)} utterances in {1000 * seconds:.0f} ms")
    _claim(console, accuracy >= LEAST_ACCURACY, f"accuracy {accuracy:.4f}, at least {LEAST_ACCURACY}")
    return accuracy


def _stream(console: Console, client: Client, data: Series) -> Errors:
    """Steps a session through the recording; its forecasts against persistence, and against one whole run."""
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
    _say(console, f"{len(outputs) / seconds:,.0f} samples a second, each answered before the next was sent")

    errors = Errors(rmse=_rmse(data, streamed[:-1]), persistence_rmse=_rmse(data, data.values[:-1]))
    _claim(
        console,
        errors.rmse < errors.persistence_rmse,
        f"error of the next sample {errors.rmse:.4f}; repeating the last one: {errors.persistence_rmse:.4f}",
    )
    whole = client.predict("gait", data.values)
    _claim(
        console,
        streamed.tobytes() == np.asarray(whole).tobytes(),
        f"the {streamed.size:,} numbers streamed have the bits of one whole run",
    )
    return errors


def _rmse(data: Series, forecasts: Array) -> float:
    """Of forecasts [T-1, I] of samples 1 to T-1, over the test part, in the training part's deviations."""
    scale = data.values[: data.split].std(axis=0, dtype=np.float64)
    errors = (forecasts - data.values[1:])[data.split - 1 :] / scale
    return float(np.sqrt(np.mean(np.square(errors))))


def _heading(console: Console, number: int, step: str, what: str) -> None:
    console.print(f"[bold]{number} {step}[/] {what}")


def _say(console: Console, text: str) -> None:
    console.print(f"     {text}", markup=False)


def _claim(console: Console, holds: bool, text: str) -> None:
    """Prints a claim with its outcome; one that does not hold ends the demo."""
    console.print("  [green]ok[/]" if holds else "  [red]no[/]", escape(text))
    if not holds:
        fail(f"demo: this does not hold: {text}")
