"""Reads a user's text file line by line; a line keeps the number that an editor shows."""

from __future__ import annotations

import codecs
from pathlib import Path

from statewise.models.base import RecipeError

# A line is one sequence, read in one piece, so memory and time of an update grow with the longest line.
_MOST_CHARACTERS = 10_000
_LONGEST_EXCERPT = 40
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Reads the text of a UTF-8 file, without byte order mark; ends of lines are as in the file.

    Raises:
        RecipeError: The file is missing, not UTF-8, or blank.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecipeError(path, f"{error.strerror}") from None
    if content.startswith(_UTF16):
        raise RecipeError(path, "expected UTF-8 text, got UTF-16")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(path, f"line {line}: expected UTF-8 text, byte {error.start} is not") from None
    if not text.strip():
        raise RecipeError(path, "expected at least one line, got none")
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Reads the lines that are not blank, each with its number.

    Raises:
        RecipeError: As `read_text`, or a line is too long to train on.
    """
    lines = [
        (number, line.removesuffix("\r"))
        for number, line in enumerate(read_text(path).split("\n"), 1)
        if line.strip()
    ]
    for number, line in lines:
        if len(line) > _MOST_CHARACTERS:
            raise RecipeError(
                path,
                f"line {number}: expected at most {_MOST_CHARACTERS:,} characters, got {len(line):,}; "
                "each line is trained on as one sequence: cut the text into lines",
            )
    return lines


def excerpt(text: str) -> str:
    """Returns the beginning of a text in quotes, for messages."""
    return repr(text if len(text) <= _LONGEST_EXCERPT else text[: _LONGEST_EXCERPT - 3] + "...")
