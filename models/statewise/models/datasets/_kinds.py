"""Defines the four kinds of data that recipes train on, in raw units.

A data set holds what was measured or written, not normalised, padded or batched, and never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from statewise.models.base import Floats, Integers


@dataclass(frozen=True, kw_only=True)
class LabelledSequences:
    """Sequences that each belong to a class.

    Attributes:
        name: Name of the data set.
        train: Sequences [T_i, I], float32.
        train_labels: [N], indices into `label_names`.
        test: As `train`; empty if the data has no test part.
        test_labels: As `train_labels`.
        label_names: Names of the classes.
    """

    name: str
    train: Sequence[Floats]
    train_labels: Integers
    test: Sequence[Floats]
    test_labels: Integers
    label_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One recording of several channels at equal intervals.

    Attributes:
        name: Name of the data set.
        values: [T, I], float32.
        split: The first step of the test part; all steps before are for training.
        channels: Names of the I channels.
    """

    name: str
    values: Floats
    split: int
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words, each with a condition.

    Attributes:
        name: Name of the data set.
        words: Spelled with one character a token.
        conditions: [N], indices into `condition_names`.
        condition_names: Names of the conditions.
    """

    name: str
    words: tuple[str, ...]
    conditions: Integers
    condition_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Sources and the targets to produce from them; a source may occur with several targets.

    Attributes:
        name: Name of the data set.
        sources: Token sequences.
        targets: Token sequences, one for each source.
    """

    name: str
    sources: tuple[tuple[str, ...], ...]
    targets: tuple[tuple[str, ...], ...]


Dataset: TypeAlias = LabelledSequences | Series | Words | Pairs
