"""Numbers the tokens of text, and measures the distance of token sequences.

A vocabulary holds the symbols of its data; free text is not tokenised. Token 0 ends a sequence. Tokens that
only begin a sequence have the highest numbers, so a head's outputs are the tokens from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from statewise.models.base import Integers

END = "<end>"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens in the order of their numbers.

    Attributes:
        symbols: The symbols of the text, sorted; their numbers start at 1.
        begins: Tokens that begin a sequence, numbered after the symbols.
        separator: Between the symbols of written text.
    """

    symbols: tuple[str, ...]
    begins: tuple[str, ...] = ()
    separator: str = ""

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], **options: Any) -> Vocabulary:
        """Creates the vocabulary of all symbols in `texts`."""
        return cls(symbols=tuple(sorted({symbol for text in texts for symbol in text})), **options)

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens, by number."""
        return (END, *self.symbols, *self.begins)

    @property
    def output_size(self) -> int:
        """Tokens that a network can produce: the end and the symbols."""
        return 1 + len(self.symbols)

    def begin(self, name: str) -> int:
        """Returns the number of a token that begins a sequence."""
        return self.output_size + self.begins.index(name)

    def encode(self, text: Sequence[str]) -> Integers:
        """Symbols to numbers.

        Raises:
            ValueError: A symbol is not in the vocabulary.
        """
        unknown = next((symbol for symbol in text if symbol not in self._numbers), None)
        if unknown is not None:
            raise ValueError(f"expected symbols of {self.separator.join(self.symbols)}, got {unknown!r}")
        return np.array([self._numbers[symbol] for symbol in text], np.int32)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols, 1)}

    def to_dict(self, *, conditional: bool = False) -> dict[str, Any]:
        """Returns everything that a server needs to read and write such text, as plain JSON values.

        Args:
            conditional: Whether the user chooses the begin token.
        """
        folding = {True: "upper", False: "lower"} if not self.separator else {}
        letters = "".join(self.symbols)
        case = folding.get(letters.isupper(), "") if letters.isupper() or letters.islower() else ""
        return {
            "tokens": list(self.tokens),
            "separator": self.separator,
            "case": case,
            "unknown": None,
            "begin": self.output_size if self.begins and not conditional else None,
            "end": 0,
            "pad": None,
            "conditions": {name: self.begin(name) for name in self.begins} if conditional else {},
        }


def edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Counts the fewest insertions, deletions and replacements that turn a into b (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
