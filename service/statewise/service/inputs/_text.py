"""Converts text to tokens and tokens to text, by a model's vocabulary.

Tokens with a role (begin, end, pad, conditions) are never read from text and never written into it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.wire import Vocabulary

Tokens = NDArray[np.int64]

_SHOWN = 40
"""Most symbols that an error lists."""


class TextError(ValueError):
    """The vocabulary cannot read a text, or lacks a condition. The message says what it expects."""


class Codec:
    """Reads and writes texts.

    Args:
        vocabulary: The tokens, and how their texts are joined.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        roles = {vocabulary.begin, vocabulary.end, vocabulary.pad, *vocabulary.conditions.values()}
        self._silent = roles - {None}
        self._numbers = {
            text: number
            for number, text in reversed(list(enumerate(vocabulary.tokens)))
            if text and number not in self._silent and number != vocabulary.unknown
        }
        self._sizes = sorted({len(text) for text in self._numbers}, reverse=True)
        characters = sorted(self._numbers)
        self._code_points = np.array([ord(one) for one in characters if len(one) == 1], np.uint32)
        self._by_code_point = np.array([self._numbers[one] for one in characters if len(one) == 1], np.int64)

    @property
    def begin(self) -> int | None:
        """The token that a text begins with: the begin token, or else the lowest condition; None: none."""
        begin, conditions = self._vocabulary.begin, self._vocabulary.conditions
        return begin if begin is not None else min(conditions.values(), default=None)

    @property
    def end(self) -> int | None:
        """The token that a text ends with; None: none."""
        return self._vocabulary.end

    def condition(self, name: str) -> int:
        """Finds the token of a condition, named with or without its angle brackets. Raises TextError."""
        conditions = self._vocabulary.conditions
        for spelled in (name, f"<{name}>"):
            if spelled in conditions:
                return conditions[spelled]
        known = ", ".join(map(repr, conditions)) or "none"
        raise TextError(f"expected a condition of the model, which has {known}; got {name!r}")

    def read(self, text: str) -> Tokens:
        """Reads a text's tokens, without begin and end. Raises TextError for a symbol without a token."""
        match self._vocabulary.case_folding:
            case "upper":
                text = text.upper()
            case "lower":
                text = text.lower()
        separator = self._vocabulary.separator
        if not separator and self._sizes == [1]:
            return self._characters(text)
        symbols = [part for part in text.split(separator) if part] if separator else self._symbols(text)
        return np.array([self._number(symbol) for symbol in symbols], np.int64)

    def _characters(self, text: str) -> Tokens:
        """As `read`, for a vocabulary with one character a token: without a Python object for each."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        indices = np.minimum(np.searchsorted(self._code_points, codes), len(self._code_points) - 1)
        known = self._code_points[indices] == codes
        tokens = self._by_code_point[indices]
        if not known.all():
            tokens[~known] = self._number(text[int(np.argmin(known))])
        return tokens

    def _symbols(self, text: str) -> list[str]:
        """Splits a text, each time after the longest token that it starts with, or after one character."""
        symbols, start = [], 0
        while start < len(text):
            size = next((size for size in self._sizes if text[start : start + size] in self._numbers), 1)
            symbols.append(text[start : start + size])
            start += size
        return symbols

    def _number(self, symbol: str) -> int:
        number = self._numbers.get(symbol, self._vocabulary.unknown)
        if number is None:
            known = sorted(self._numbers, key=self._numbers.__getitem__)
            listed = " ".join(known[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
            raise TextError(f"expected symbols of {listed}; got {symbol[:_SHOWN]!r}")
        return number

    def write(self, tokens: NDArray[np.integer]) -> list[str]:
        """Writes tokens as texts, without those with a role; joined by the separator they are a text."""
        return [self._vocabulary.tokens[number] for number in tokens.tolist() if number not in self._silent]

    @property
    def separator(self) -> str:
        """The text between two tokens."""
        return self._vocabulary.separator


@dataclass(slots=True)
class TextWriter:
    """Writes the texts of rows chunk by chunk; a row's chunks joined are its text.

    Args:
        codec: Converts tokens to text.
        started: Rows whose text has a token already, [rows].
    """

    codec: Codec
    started: NDArray[np.bool_]

    @classmethod
    def of(cls, codec: Codec | None, rows: int) -> "TextWriter | None":
        """Returns a writer of empty texts; None where there is no codec."""
        return None if codec is None else cls(codec, np.zeros(rows, np.bool_))

    def add(self, row: int, tokens: NDArray[np.integer]) -> str:
        """Returns the text that tokens add to a row's text."""
        written = self.codec.write(tokens)
        if not written:
            return ""
        joined = self.codec.separator.join(written)
        if self.started[row]:
            joined = self.codec.separator + joined
        self.started[row] = True
        return joined
