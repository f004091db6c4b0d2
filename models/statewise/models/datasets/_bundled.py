"""Loads the data sets that come with the package; data/README.md names sources and licences.

It downloads nothing. Each data set is one compressed file; values are in raw units.
"""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from typing import Literal, overload

import numpy as np

from statewise.models.base import Array
from statewise.models.datasets._kinds import Dataset, LabelledSequences, Pairs, Series, Words

BUNDLED = ("g2p", "gait", "names", "sunspots", "tumour", "vowels")


@overload
def load_dataset(name: Literal["vowels", "tumour"]) -> LabelledSequences: ...
@overload
def load_dataset(name: Literal["gait", "sunspots"]) -> Series: ...
@overload
def load_dataset(name: Literal["names"]) -> Words: ...
@overload
def load_dataset(name: Literal["g2p"]) -> Pairs: ...
@overload
def load_dataset(name: str) -> Dataset: ...
def load_dataset(name: str) -> Dataset:
    """Loads a bundled data set in raw units.

    Args:
        name: vowels or tumour (`LabelledSequences`), gait or sunspots (`Series`), names (`Words`),
            g2p (`Pairs`).

    Raises:
        ValueError: No data set has that name.
    """
    if name not in BUNDLED:
        raise ValueError(f"data set: expected one of {', '.join(BUNDLED)}, got {name!r}")
    with as_file(files("statewise.models") / "data" / f"{name}.npz") as path, np.load(path) as packed:
        arrays = dict(packed)
    match name:
        case "vowels":
            return _vowels(arrays)
        case "tumour":
            return _tumour(arrays)
        case "gait":
            return _gait(arrays)
        case "sunspots":
            return _sunspots(arrays)
        case "names":
            return _names(arrays)
        case _:
            return _g2p(arrays)


def _vowels(arrays: dict[str, Array]) -> LabelledSequences:
    utterances = np.split(arrays["frames"], np.cumsum(arrays["lengths"][:-1], dtype=np.int64))
    labels = arrays["labels"].astype(np.int64)
    count = int(arrays["train_count"])
    return LabelledSequences(
        name="vowels",
        train=utterances[:count],
        train_labels=labels[:count],
        test=utterances[count:],
        test_labels=labels[count:],
        label_names=tuple(f"speaker {number}" for number in range(1, labels.max() + 2)),
    )


def _tumour(arrays: dict[str, Array]) -> LabelledSequences:
    features = arrays["features"].astype(np.float32)
    return LabelledSequences(
        name="tumour",
        train=[case[None, :] for case in features],
        train_labels=arrays["labels"].astype(np.int64),
        test=[],
        test_labels=np.zeros(0, np.int64),
        label_names=tuple(str(name) for name in arrays["classes"]),
    )


def _gait(arrays: dict[str, Array]) -> Series:
    values = arrays["samples"].astype(np.float32)
    return Series(
        name="gait",
        values=values,
        split=len(values) * 8 // 10,
        channels=tuple(str(name) for name in arrays["channels"]),
    )


def _sunspots(arrays: dict[str, Array]) -> Series:
    values = (arrays["tenths"] / 10).astype(np.float32)[:, None]
    return Series(name="sunspots", values=values, split=len(values) - 624, channels=("sunspot number",))


def _names(arrays: dict[str, Array]) -> Words:
    words = tuple(_text(arrays["names"]).split("\n"))
    conditions = (np.arange(len(words)) >= int(arrays["female_count"])).astype(np.int64)
    return Words(name="names", words=words, conditions=conditions, condition_names=("female", "male"))


def _g2p(arrays: dict[str, Array]) -> Pairs:
    """Letters and apostrophes to phonemes without stress marks; entries with other signs are left out."""
    sources, targets = [], []
    for entry in _text(arrays["entries"]).split("\n"):
        word, phonemes = entry.split(" ", 1)
        word = re.sub(r"\(\d+\)$", "", word)
        if re.fullmatch(r"[a-z']+", word):
            sources.append(tuple(word))
            targets.append(tuple(phoneme.rstrip("012") for phoneme in phonemes.split()))
    return Pairs(name="g2p", sources=tuple(sources), targets=tuple(targets))


def _text(packed: Array) -> str:
    return packed.tobytes().decode()
