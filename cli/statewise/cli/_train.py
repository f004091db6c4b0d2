"""Implements `statewise train`: trains a recipe into a checkpoint folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from statewise import models
from statewise.cli._terminal import JsonFlag, exits_on, fail, print_json, remark, stderr_console


def _complete_recipes(incomplete: str) -> list[str]:
    return [name for name in models.recipe_names() if name.startswith(incomplete)]


@exits_on(models.ModelsError, OSError)
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A bundled recipe's name, or a TOML file.",
            autocompletion=_complete_recipes,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "--output", metavar="DIR", help="Folder to write: the checkpoint and the metrics."
        ),
    ],
    seed: Annotated[int | None, typer.Option(min=0, help="Default: the recipe's seed.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override an entry of the recipe, as in train.epochs=3."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in --out; --set train.epochs=N may ask for more epochs."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in --out and start again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Trains a recipe in NumPy and prints its metrics on data that it was not trained on.

    For example:

      statewise train vowels --out runs/vowels --seed 1

      statewise train my-recipe.toml --out runs/mine --set train.epochs=3

      statewise train my-recipe.toml --out runs/mine --set train.epochs=6 --resume
    """
    if resume and overwrite:
        raise typer.BadParameter("expected one of them", param_hint="--resume, --overwrite")
    chosen = models.load_recipe(recipe, overrides=_overrides(settings or []))
    with _bar() as bar, _interruptible(out, overwrite), _flags_for_runs():
        task = bar.add_task(chosen.name, total=None, loss=float("nan"))
        result = models.train(
            chosen,
            out,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
            on_progress=lambda progress: bar.update(
                task, completed=progress.step, total=progress.steps, loss=progress.loss
            ),
        )
    _print_result(result, as_json=as_json)


def _print_result(result: models.TrainResult, *, as_json: bool) -> None:
    if as_json:
        checkpoint = str(result.checkpoint_dir)
        head = {"recipe": result.recipe, "seconds": result.seconds, "checkpoint": checkpoint}
        print_json({**head, **result.metrics})
        return
    measured = ", ".join(f"{key} {value:.4g}" for key, value in result.metrics.items())
    print(
        f"{result.recipe}: {measured or 'nothing measured'}; {result.seconds:.1f} s; {result.checkpoint_dir}"
    )


@contextmanager
def _interruptible(out: Path, overwrite: bool) -> Iterator[None]:
    """Prints how to resume if the user interrupts training after a checkpoint was written."""
    try:
        yield
    except KeyboardInterrupt:
        if (out / "checkpoint.npz").exists():
            flag = "--resume in place of --overwrite" if overwrite else "--resume"
            remark(f"the same command with {flag} continues from the last checkpoint")
        raise


@contextmanager
def _flags_for_runs() -> Iterator[None]:
    """Names the flags that go on if the folder holds a run."""
    try:
        yield
    except models.RunExists as error:
        more = f" with --set train.epochs=N, above {error.epochs}," if error.finished else ""
        fail(f"{error.state}; --resume{more} continues it, --overwrite deletes it and starts again")


def _overrides(settings: list[str]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in settings]
    for key, equals, value in pairs:
        if not (key and equals):
            raise typer.BadParameter(f"expected KEY=VALUE; got {key + equals + value!r}", param_hint="--set")
    return {key: value for key, _, value in pairs}


def _bar() -> Progress:
    """Makes a progress bar on stderr; silent unless stderr is a terminal."""
    console = stderr_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
