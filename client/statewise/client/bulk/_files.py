"""Finds the files of paths and patterns, and opens each with the reader of its kind.

Memory holds one row of .npz and .jsonl at a time, one row group of .parquet, and the numbers of one .csv.
"""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from statewise.client.bulk._csv import CsvFile, CsvLayout
from statewise.client.bulk._file_row import FileReader
from statewise.client.bulk._jsonl import JsonlFile
from statewise.client.bulk._npz import NpzFile
from statewise.client.bulk._parquet import ParquetFile
from statewise.client.values import InvalidInput


class SampleFiles:
    """Files of sequences, read one after another; a source for `score`.

    Args:
        paths: paths of .jsonl, .jsonl.gz, .csv, .npz and .parquet files, or patterns such as "day-*.jsonl",
            whose files are read in the order of their names.
        sequence: column of .csv files whose cells are equal in all rows of one sequence, and are its id; "":
            every row is a sequence; None: the column `id`, or each file is one sequence if it has none.
        columns: columns of .csv files that are inputs, in this order; none: all but that of `sequence`.

    Attributes:
        paths: the files that are read, in order.

    Raises:
        InvalidInput: there is no such file, or one is named twice or of another kind; or `sequence` or
            `columns` is given and no file is a .csv.

    Example:
        >>> files = SampleFiles("monday.csv", "more-*.csv", sequence="utterance")
        >>> for scored in client.score("vowels", files):
        ...     print(scored.file, scored.id, scored.error or scored.outputs.argmax())
    """

    def __init__(self, *paths: str | Path, sequence: str | None = None, columns: Sequence[str] = ()) -> None:
        if not paths:
            raise InvalidInput("expected the path of a file, or a pattern; got none")
        if isinstance(columns, str):
            raise InvalidInput(f"columns: expected a list of names; got the text {columns!r}")
        self.paths: tuple[Path, ...] = tuple(path for named in paths for path in _find(named))
        seen: set[Path] = set()
        for path in self.paths:
            if path.absolute() in seen:
                raise InvalidInput(f"expected each file once; {str(path)!r} is named twice")
            seen.add(path.absolute())
        self._layout = CsvLayout(sequence, tuple(columns))
        readers = [self._open(path) for path in self.paths]
        if (sequence is not None or columns) and not any(isinstance(reader, CsvFile) for reader in readers):
            raise InvalidInput("expected a .csv file, whose columns `sequence` and `columns` name; got none")

    def _open(self, path: Path) -> FileReader:
        kinds: dict[str, Callable[[Path], FileReader]] = {
            ".jsonl": JsonlFile,
            ".jsonl.gz": JsonlFile,
            ".csv": lambda path: CsvFile(path, self._layout),
            ".npz": NpzFile,
            ".parquet": ParquetFile,
        }
        for suffix, kind in kinds.items():
            if path.name.lower().endswith(suffix):
                return kind(path)
        raise InvalidInput(f"expected a file named {', '.join(kinds)}; got {str(path)!r}")


def _find(pattern: str | Path) -> list[Path]:
    """Finds the files that a path or a pattern names, sorted by name."""
    if not isinstance(pattern, str | Path):
        raise InvalidInput(f"expected the path of a file, or a pattern; got {type(pattern).__name__}")
    if Path(pattern).is_file():
        return [Path(pattern)]
    paths = [Path(path) for path in sorted(glob.glob(str(pattern), recursive=True)) if Path(path).is_file()]
    if not paths:
        raise InvalidInput(f"expected the path of a file, or a pattern; no file is named {str(pattern)!r}")
    return paths


def open_readers(files: SampleFiles) -> list[FileReader]:
    """Opens every file; nothing is read yet."""
    return [files._open(path) for path in files.paths]
