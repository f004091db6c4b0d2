"""Reads the sources of `score` as samples with ids, and holds its results.

This module neither checks values nor knows the server. A source is read lazily, one sample at a time.
"""

import io
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from statewise.client.bulk._files import SampleFiles, open_readers
from statewise.client.bulk._jsonl import rows_of_stream
from statewise.client.values import InvalidInput, StatewiseError, wrong


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
        id: id of the sample; the index if the source has no ids. Two files may hold the same id.
        outputs: as `predict` returns them for one sequence: [T, ...], [...], a dict, a label or a text.
        error: why there are no outputs; the message names the line, if there is one.
        file: path of the file that holds the sequence; None if the source is no file.
        line: line of a .jsonl or .csv at which the sequence begins, from 1; None in other sources.
    """

    index: int
    id: object
    outputs: Any
    error: StatewiseError | None = None
    file: str | None = None
    line: int | None = None


class Item(NamedTuple):
    """A sequence with all that its result repeats; `inputs` is an `InvalidInput` if it cannot be read."""

    id: object
    inputs: object
    file: str | None = None
    line: int | None = None


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
    """Opens an iterable of sequences, a mapping of them by id, files, or a stream of .jsonl lines.

    Raises:
        InvalidInput: `source` is none of these, or there is no such file.
    """
    if isinstance(source, str | Path):
        source = SampleFiles(source)
    if isinstance(source, SampleFiles):
        files = source
        return SampleSource(
            lambda start: _from_files(files, start), lambda: sum(file.count() for file in open_readers(files))
        )
    if isinstance(source, io.BufferedIOBase | io.RawIOBase):
        stream = cast("IO[bytes]", source)
        return SampleSource(lambda start: _from_stream(stream, start), lambda: None)
    if isinstance(source, io.TextIOBase | bytes):
        raise wrong("source", "a stream of bytes, or a path", source)
    if hasattr(source, "iterrows"):
        raise InvalidInput("expected an iterable of sequences; got one DataFrame: a list may hold it")
    if isinstance(source, Mapping):
        return SampleSource(lambda start: _from_mapping(source, start), lambda: len(source))
    if isinstance(source, Iterable):
        return SampleSource(lambda start: _from_iterable(source, start), lambda: _length(source))
    raise wrong(
        "source",
        "an iterable of sequences, a mapping of them by id, or the path of a .jsonl, .jsonl.gz, .csv, .npz "
        "or .parquet file",
        source,
    )


def sample_of(index: int, value: object) -> Item:
    """Makes a sample of an element of an iterable; its index is its id unless it has one."""
    return Item(value.id, value.inputs) if isinstance(value, Sample) else Item(index, value)


def _from_iterable(source: Iterable[object], start: int) -> Generator[Item, None, None]:
    for index, value in enumerate(islice(source, start, None), start):
        yield sample_of(index, value)


def _from_mapping(source: Mapping[Any, object], start: int) -> Generator[Item, None, None]:
    for key in islice(source, start, None):
        yield Item(key, source[key])


def _from_files(files: SampleFiles, start: int) -> Generator[Item, None, None]:
    index = 0
    for path, file in zip(map(str, files.paths), open_readers(files), strict=True):
        skipped = max(start - index, 0)
        if skipped:
            count = file.count()
            if count <= skipped:
                index += count
                continue
            index = start
        for row_id, inputs, line in file.rows(skipped):
            yield Item(index if row_id is None else row_id, inputs, path, line)
            index += 1


def _from_stream(stream: IO[bytes], start: int) -> Generator[Item, None, None]:
    for index, (row_id, inputs, line) in enumerate(rows_of_stream(stream, start), start):
        yield Item(index if row_id is None else row_id, inputs, None, line)


def _length(source: object) -> int | None:
    try:
        return len(source)  # type: ignore[arg-type]
    except TypeError:
        return None
