"""What `score` takes and gives: sequences with names, one by one.

Nothing here judges values or knows the server; a source is read only as far as it is asked.
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
    """One sequence to score, under a name.

    Attributes:
        id: comes back with the outputs.
        inputs: one sequence [T, ...], or what else `predict` takes for one.
    """

    id: object
    inputs: object


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of one sequence: either `outputs` or `error` is there.

    Attributes:
        index: its place in the source, from 0.
        id: its name; where the source gives none, the index.
        outputs: as `predict` gives them for one sequence: [T, ...], [...], or a dict; the label or a text.
        error: why there are none.
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
        items: its rows from row `start` on.
        total: the number of its rows, as far as that can be told without running it; may read files.
    """

    items: Callable[[int], Generator[Item, None, None]]
    total: Callable[[], int | None]


def open_source(source: object) -> SampleSource:
    """Any iterable of sequences, a mapping of them by id, or files by path or pattern.

    Raises:
        InvalidInput: it is none of these, or no file is there.
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
    """An element of an iterable: a name is added where it has none."""
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
