"""Declares the options of `statewise score`."""

from pathlib import Path
from typing import Annotated

import typer

InputOption = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="FILE",
        help="A .jsonl, .jsonl.gz, .csv, .npz or .parquet file, or a quoted pattern of files. Repeat it for "
        "more files. - reads lines of .jsonl from stdin.",
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "--out", metavar="FILE", help="A .jsonl, .npz or .parquet file to write."),
]
LabelsFlag = Annotated[
    bool, typer.Option("--labels", help="Write the name of the best class instead of the outputs.")
]
SequenceOption = Annotated[
    str | None,
    typer.Option(
        "--sequence",
        metavar="COLUMN",
        help="Column of a .csv that is equal in all rows of a sequence, and is its id; '' makes every row a "
        "sequence. Default: the column id; without it, the file is one sequence.",
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="A,B,…",
        help="Columns of a .csv that are inputs, in this order. Default: all but that of --sequence.",
    ),
]
MaxFailuresOption = Annotated[
    int | None,
    typer.Option("--max-failures", metavar="N", min=1, help="Stop after N sequences that failed."),
]
RestartFlag = Annotated[
    bool, typer.Option("--restart", help="Discard the results of an interrupted run and start again.")
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]
