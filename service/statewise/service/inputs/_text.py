"""Text to tokens and back, by a model's vocabulary.

No models and no requests. Tokens with a role (begin, end, pad, conditions) are never read from text and never
written into it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.wire import Vocabulary

Tokens = NDArray[np.int64]

_SHOWN = 40
"""Symbols that an error lists at most."""


class TextError(ValueError):
    """A text that the vocabulary cannot read, or a name it does not know; says what was expected."""


class Codec:
    """Reads and writes texts.

    Args:
        vocabulary: Its tokens and how they are joined.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words = vocabulary
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
        """The token that a text begins with: the only one, or the first of the conditions; None: none."""
        words = self._words
        return words.begin if words.begin is not None else min(words.conditions.values(), default=None)

    def condition(self, name: str) -> int:
        """The begin token of that name, with or without its angle brackets. Raises TextError."""
        conditions = self._words.conditions
        for spelled in (name, f"<{name}>"):
            if spelled in conditions:
                return conditions[spelled]
        known = ", ".join(map(repr, conditions)) or "none"
        raise TextError(f"expected a condition of the model, which has {known}; got {name!r}")

    def read(self, text: str) -> Tokens:
        """The tokens of a text, without begin and end. Raises TextError for a symbol without a token."""
        match self._words.case_folding:
            case "upper":
                text = text.upper()
            case "lower":
                text = text.lower()
        separator = self._words.separator
        if not separator and self._sizes == [1]:
            return self._characters(text)
        symbols = [part for part in text.split(separator) if part] if separator else self._symbols(text)
        return np.array([self._number(symbol) for symbol in symbols], np.int64)

    def _characters(self, text: str) -> Tokens:
        """The usual vocabulary, a token a character: no Python object for each."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        places = np.minimum(np.searchsorted(self._code_points, codes), len(self._code_points) - 1)
        known = self._code_points[places] == codes
        tokens = self._by_code_point[places]
        if not known.all():
            tokens[~known] = self._number(text[int(np.argmin(known))])
        return tokens

    def _symbols(self, text: str) -> list[str]:
        """The longest tokens that the text begins with, one after another; single characters between them."""
        symbols, place = [], 0
        while place < len(text):
            size = next((size for size in self._sizes if text[place : place + size] in self._numbers), 1)
            symbols.append(text[place : place + size])
            place += size
        return symbols

    def _number(self, symbol: str) -> int:
        number = self._numbers.get(symbol, self._words.unknown)
        if number is None:
            known = sorted(self._numbers, key=self._numbers.__getitem__)
            listed = " ".join(known[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
            raise TextError(f"expected symbols of {listed}; got {symbol[:_SHOWN]!r}")
        return number

    def write(self, tokens: NDArray[np.integer]) -> list[str]:
        """The texts of tokens, those with a role left out; joined by the separator they are a text."""
        return [self._words.tokens[number] for number in tokens.tolist() if number not in self._silent]

    @property
    def separator(self) -> str:
        """What stands between two tokens."""
        return self._words.separator


@dataclass(slots=True)
class TextWriter:
    """Texts that grow piece by piece; a row's pieces joined are its text.

    Args:
        codec: Writes them.
        begun: Which of them have a token already, [rows].
    """

    codec: Codec
    begun: NDArray[np.bool_]

    @classmethod
    def of(cls, codec: Codec | None, rows: int) -> "TextWriter | None":
        """Nothing is written yet; None where there is no codec."""
        return None if codec is None else cls(codec, np.zeros(rows, np.bool_))

    def add(self, row: int, tokens: NDArray[np.integer]) -> str:
        """What tokens add to a row's text."""
        written = self.codec.write(tokens)
        if not written:
            return ""
        joined = self.codec.separator.join(written)
        if self.begun[row]:
            joined = self.codec.separator + joined
        self.begun[row] = True
        return joined
