"""The tables of a recipe, key by key: what each means, its default and its range.

Nothing is read or checked here. A key exists exactly if it is an attribute of one of these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from statewise.models.networks import ActivationName, CallShape, CellName, HeadName, Transform
from statewise.models.optimisation import ScheduleName


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The `[data]` table.

    Attributes:
        source: A bundled data set, or a .npz, .csv or .txt file beside the recipe.
        label: Column of a csv, or array of an npz, that holds the classes.
        sequence: Column of a csv that tells sequences apart; empty when every row is its own.
        columns: Columns of a csv to read, in order; empty for all others.
        test_fraction: Share of a user's data kept for testing: the end of a series, else a seeded draw.
        test_count: Examples kept for testing instead of a share; 0 for the share.
        validation_fraction: Share of the training data that is held out to watch and to stop early.
        folds: With 2 or more, `classify` measures by cross-validation before it trains on everything.
        transform: Applied to a series before it is standardised.
        units: Of a forecast's error: standardised by the training part, or raw.
    """

    source: str
    label: str = "label"
    sequence: str = ""
    columns: tuple[str, ...] = ()
    test_fraction: float = 0.2
    test_count: int = 0
    validation_fraction: float = 0.0
    folds: int = 0
    transform: Transform = "identity"
    units: Literal["standardised", "raw"] = "standardised"


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The `[network]` table: what the data does not fix already. See `NetworkSpec` for the meanings."""

    cell: CellName = "lstm"
    hidden_size: int = 64
    layers: int = 1
    bidirectional: bool = False
    activation: ActivationName = "tanh"
    head: HeadName | Literal["auto"] = "auto"
    reset_after: bool = False
    residual: bool = False
    embedding_size: int = 32
    call_shape: CallShape | Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The `[train]` table.

    Attributes:
        seed: Of parameters, order, dropout and noise; one seed gives one result.
        epochs: Passes over the training data.
        batch_size: Sequences, windows or streams in a batch.
        window: Steps that gradients flow through in a series (truncated BPTT); states are carried on.
        optimiser: sgd, adam or adamw.
        learning_rate: Before the schedule.
        momentum: Of sgd.
        weight_decay: Of adamw; biases are spared.
        schedule: constant, linear, cosine or step.
        warmup_steps: Updates with a rising learning rate.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        dropout: Probability that an output of a layer is dropped.
        input_noise: Standard deviation of noise on normalised inputs, fresh for every batch.
        amplitude: Series are scaled by exp(U(-amplitude, amplitude)) before the transform, a number a stream.
        label_smoothing: Share of a target spread over all classes.
        patience: Epochs without a better validation loss before training stops; 0 trains to the end.
            The best parameters seen are kept. Needs `data.validation_fraction`.
        checkpoint_every: Epochs between checkpoints; the last epoch always makes one.
        dtype: float32 or float64.
        threads: Of NumPy's matrix products while training; 0 for the library's own choice. More than one
            pays off only for wide networks on cores that nothing else uses. Another number may change
            the last bits of a result.
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

# Keys that a task has no use for; setting one to something else than its default is a mistake.
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
        "data.columns",
        "data.folds",
        "data.transform",
        "data.units",
        "train.window",
        "train.input_noise",
        "train.amplitude",
    ),
}
