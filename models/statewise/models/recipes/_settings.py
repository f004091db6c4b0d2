"""Defines the keys of a recipe: meaning, default and range.

The keys are exactly the attributes of these classes. Nothing is read or checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from statewise.models.datasets import MissingRule
from statewise.models.networks import ActivationName, CallShape, CellName, HeadName, Transform
from statewise.models.optimisation import ScheduleName


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The `[data]` table.

    Attributes:
        source: A bundled data set, or a .npz, .csv or .txt file beside the recipe.
        label: Column of a csv, or array of an npz, that holds the classes.
        sequence: Column of a csv with an identifier that all rows of one sequence share; empty if every
            row is a sequence.
        time: Column of a csv with the time of each row, a number or as 2024-01-31T12:00; not read as a value.
            Times must rise; an interval longer than one and a half usual ones is a gap: steps are missing.
        missing: What to do about missing values (an empty cell, NA, NaN, null, ? or -; in an npz, NaN) and
            missing steps: refuse the file; repeat the previous value; interpolate, which looks ahead to the
            next value; or drop the rows with missing values, and let the steps on both sides of a gap be
            neighbours.
        columns: Columns of a csv to read, in order; empty for all others.
        test_fraction: Share of a user's data held out for testing: the end of a series, else a random draw
            that depends on the seed.
        test_count: Examples of `transduce` held out for testing instead of a share; 0 for the share.
        validation_fraction: Share of the training data held out to measure after each epoch and to stop
            early.
        folds: With 2 or more, `classify` on data without a test part reports the accuracy of a
            cross-validation; the network that is kept is trained on all training data.
        transform: Applied to a series before it is standardised.
        units: Units of a forecast's error: standardised by the training part, or raw.
    """

    source: str
    label: str = "label"
    sequence: str = ""
    time: str = ""
    missing: MissingRule = "refuse"
    columns: tuple[str, ...] = ()
    test_fraction: float = 0.2
    test_count: int = 0
    validation_fraction: float = 0.0
    folds: int = 0
    transform: Transform = "identity"
    units: Literal["standardised", "raw"] = "standardised"


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The `[network]` table: the fields of `NetworkSpec` that the data does not determine.

    With `transduce` they are the decoder's, except `bidirectional` and `learn_initial_state`, which are the
    encoder's: a decoder begins in its encoder's final state.
    """

    cell: CellName = "lstm"
    hidden_size: int = 64
    layers: int = 1
    bidirectional: bool = False
    activation: ActivationName = "tanh"
    head: HeadName | Literal["auto"] = "auto"
    reset_after: bool = False
    residual: bool = False
    learn_initial_state: bool = False
    embedding_size: int = 32
    call_shape: CallShape | Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The `[train]` table.

    Attributes:
        seed: Of parameters, order, dropout and noise; the same seed gives the same result.
        epochs: Passes over the training data.
        batch_size: Sequences, windows or streams in a batch.
        window: Steps of a series through which gradients flow (truncated BPTT); states are carried from
            window to window.
        optimiser: sgd, adam or adamw.
        learning_rate: Before the schedule.
        momentum: Of sgd.
        weight_decay: Of adamw; biases are spared.
        schedule: constant, linear, cosine or step.
        warmup_steps: Updates over which the learning rate first rises to its full value.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        dropout: Probability that an output of a layer is dropped.
        input_noise: Standard deviation of noise on normalised inputs, fresh for every batch.
        amplitude: Each stream of a series is scaled by exp(U(-amplitude, amplitude)) before the transform.
        label_smoothing: Share of a target spread over all classes.
        patience: Epochs without a better validation loss before training stops; 0 trains to the end.
            The parameters with the lowest validation loss are kept. Needs `data.validation_fraction`.
        checkpoint_every: Epochs between checkpoints; the last epoch always makes one.
        dtype: float32 or float64.
        threads: Of NumPy's matrix products while training; 0 for the library's choice. More than one is
            faster only for wide networks on idle cores. Another number may change the last bits of a
            result.
    """

    seed: int = 0
    epochs: int = 50
    batch_size: int = 32
    window: int = 64
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: ScheduleName = "cosine"
    warmup_steps: int = 0
    clip_norm: float = 1.0
    dropout: float = 0.0
    input_noise: float = 0.0
    amplitude: float = 0.0
    label_smoothing: float = 0.0
    patience: int = 0
    checkpoint_every: int = 1
    dtype: Literal["float32", "float64"] = "float32"
    threads: int = 1


# Smallest and largest value allowed, both included.
RANGES: dict[str, tuple[float, float]] = {
    "data.folds": (0, 100),
    "data.test_count": (0, 1 << 30),
    "data.test_fraction": (0, 0.9),
    "data.validation_fraction": (0, 0.9),
    "network.embedding_size": (1, 1 << 16),
    "network.hidden_size": (1, 1 << 16),
    "network.layers": (1, 64),
    "train.amplitude": (0, 10),
    "train.batch_size": (1, 1 << 20),
    "train.checkpoint_every": (1, 1 << 30),
    "train.clip_norm": (0, float("inf")),
    "train.dropout": (0, 0.95),
    "train.epochs": (1, 1 << 30),
    "train.input_noise": (0, 100),
    "train.label_smoothing": (0, 0.9),
    "train.learning_rate": (0, 100),
    "train.momentum": (0, 1),
    "train.patience": (0, 1 << 30),
    "train.seed": (0, (1 << 63) - 1),
    "train.threads": (0, 1024),
    "train.warmup_steps": (0, 1 << 30),
    "train.weight_decay": (0, 100),
    "train.window": (1, 1 << 20),
}

# Keys that have no effect on a task; a value other than the default is an error.
WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "classify": (
        "data.transform",
        "data.units",
        "network.residual",
        "network.embedding_size",
        "train.window",
        "train.amplitude",
    ),
    "forecast": (
        "data.label",
        "data.sequence",
        "data.folds",
        "network.embedding_size",
        "train.label_smoothing",
    ),
    "language": (
        "data.label",
        "data.sequence",
        "data.time",
        "data.missing",
        "data.columns",
        "data.folds",
        "data.transform",
        "data.units",
        "train.window",
        "train.input_noise",
        "train.amplitude",
    ),
    "transduce": (
        "data.label",
        "data.sequence",
        "data.time",
        "data.missing",
        "data.columns",
        "data.folds",
        "data.transform",
        "data.units",
        "train.window",
        "train.input_noise",
        "train.amplitude",
    ),
}
