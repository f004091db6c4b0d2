"""Defines the errors of training. Numerical code raises ValueError for a wrong shape instead.

ModelsError
├── RecipeError        a recipe, or the data it names, cannot be used
├── CheckpointError    a checkpoint folder cannot be read or resumed
│   └── RunExists      a folder to train into holds a run already
└── TrainingDiverged   the loss became infinite, NaN or far larger than at the start
"""

from pathlib import Path


class ModelsError(Exception):
    """Root of the errors that this package raises on purpose."""


class RecipeError(ModelsError):
    """A recipe or its data cannot be used.

    The message is one line and names the file, the key and the value.

    Attributes:
        source: The recipe file, or the data file, at fault.
        key: Dotted key, such as `train.epochs`; None when the whole file is meant.
        value: The value of the key.
    """

    def __init__(
        self, source: str | Path, problem: str, *, key: str | None = None, value: object = None
    ) -> None:
        self.source = str(source)
        self.key = key
        self.value = value
        where = self.source if key is None else f"{self.source}: {key} = {_shown(value)}"
        super().__init__(f"{where}: {problem}")


class CheckpointError(ModelsError):
    """A checkpoint folder is missing, damaged, or belongs to another recipe."""


class RunExists(CheckpointError):  # noqa: N818 - named after the event
    """A folder to train into holds a run, and nothing says whether to resume or to overwrite it.

    Attributes:
        folder: Folder of the run.
        epoch: Epochs that were trained.
        epochs: Epochs that its recipe asked for.
        finished: Whether training has ended; it may have stopped early.
    """

    def __init__(self, folder: Path, epoch: int, epochs: int, *, finished: bool) -> None:
        self.folder = folder
        self.epoch = epoch
        self.epochs = epochs
        self.finished = finished
        super().__init__(f"{self.state}; resume it, overwrite it, or train into another folder")

    @property
    def state(self) -> str:
        """The folder and how far its run came."""
        reached = f"after epoch {self.epoch} of {self.epochs}"
        return f"{self.folder} holds a run that {'ended' if self.finished else 'stopped'} {reached}"


class TrainingDiverged(ModelsError):  # noqa: N818 - named after the event
    """The loss or its gradient became infinite or NaN, or the loss grew 10,000-fold.

    The last good checkpoint is kept.

    Attributes:
        step: Number of the update that was not made, counted from 1.
        checkpoint_dir: Folder of the last good checkpoint, or None when there was none yet.
    """

    def __init__(self, step: int, loss: float, gradient_norm: float, checkpoint_dir: Path | None) -> None:
        self.step = step
        self.loss = loss
        self.gradient_norm = gradient_norm
        self.checkpoint_dir = checkpoint_dir
        kept = (
            "no checkpoint was written yet"
            if checkpoint_dir is None
            else f"last good checkpoint: {checkpoint_dir}"
        )
        super().__init__(
            f"training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}; "
            f"lower train.learning_rate or train.clip_norm; {kept}"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
