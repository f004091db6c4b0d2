"""Reads the sources of `score` as samples with ids, and holds its results.

This module neither checks values nor knows the server. A source is read lazily, one sample at a time.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from statewise.client.bulk._files import SampleFile, open_files
from statewise.client.values import InvalidInput, StatewiseError


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence to score, with an id.

    Attributes:
        id: returned with the outputs.
        inputs: one sequence [T, ...], or another form in which `predict` takes one.
    """

    id: object
    inputs: object


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of one sequence: either `outputs` or `error` is set.

    Attributes:
        index: index of the sequence in the source, from 0.
        id: id of the sample; the index if the source has no ids.
        outputs: as `predict` returns them for one sequence: [T, ...], [...], a dict, a label or a text.
        error: why there are no outputs.
    """

    index: int
    id: object
    outputs: Any
    error: StatewiseError | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of a file that holds no sequence."""

    id: object
    error: InvalidInput


Item = Sample | Unreadable


@dataclass(frozen=True, slots=True)
class SampleSource:
    """An opened source.

    Attributes:
        items: yields the samples from index `start` on.
        total: returns the number of samples, or None if it is unknown before the source ends; may read files.
    """

    items: Callable[[int], Generator[Item, None, None]]
    total: Callable[[], int | None]


def open_source(source: object) -> SampleSource:
    """Opens an iterable of sequences, a mapping of them by id, or files by path or pattern.

    Raises:
        InvalidInput: `source` is none of these, or there is no such file.
    """
    if isinstance(source, str | Path):
        files = open_files(source)
        return SampleSource(
            lambda start: _from_files(files, start), lambda: sum(file.count() for file in files)
        )
    if isinstance(source, Mapping):
        return SampleSource(lambda start: _from_mapping(source, start), lambda: len(source))
    if isinstance(source, Iterable):
        return SampleSource(lambda start: _from_iterable(source, start), lambda: _length(source))
    raise InvalidInput(
        f"expected an iterable of sequences, a mapping of them by id, or the path of a .npz, .jsonl or "
        f".parquet file; got {type(source).__name__}"
    )


def sample_of(index: int, value: object) -> Item:
    """Makes a sample of an element of an iterable; its index is its id unless it has one."""
    return value if isinstance(value, Sample) else Sample(index, value)


def _from_iterable(source: Iterable[object], start: int) -> Generator[Item, None, None]:
    for index, value in enumerate(islice(source, start, None), start):
        yield sample_of(index, value)


def _from_mapping(source: Mapping[Any, object], start: int) -> Generator[Item, None, None]:
    for key in islice(source, start, None):
        yield Sample(key, source[key])


def _from_files(files: Sequence[SampleFile], start: int) -> Generator[Item, None, None]:
    index = 0
    for file in files:
        skipped = max(start - index, 0)
        if skipped:
            count = file.count()
            if count <= skipped:
                index += count
                continue
            index = start
        for row_id, value in file.rows(skipped):
            name = index if row_id is None else row_id
            yield Unreadable(name, value) if isinstance(value, InvalidInput) else Sample(name, value)
            index += 1


def _length(source: object) -> int | None:
    try:
        return len(source)  # type: ignore[arg-type]
    except TypeError:
        return None
