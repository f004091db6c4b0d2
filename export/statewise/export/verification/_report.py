"""What a verification found: checks with numbers, and the class of the model.

Only data; the command draws the table.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any


class Exactness(StrEnum):
    """Whether a row's result depends on how it was run."""

    EXACT = "exact"
    """Alone or batched, step by step or whole: the same bits."""
    TOLERANCE = "tolerance"
    """The same within rounding."""
    UNSAFE = "unsafe"
    """Neighbours, or the way a sequence is cut, change results."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was compared, in a few words.
        passed: Whether it is as it should be.
        detail: What was found, in a sentence.
        measured: The largest difference found, where the check measures one.
        bound: What it had to stay below.
    """

    name: str
    passed: bool
    detail: str
    measured: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of a verification.

    Attributes:
        package: What was verified.
        checks: In the order they were made; the first that makes later ones impossible ends the list.
        exactness: None where the graph did not come to be run.
    """

    package: Path
    checks: tuple[Check, ...]
    exactness: Exactness | None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values; JSON knows no infinity, so an infinite difference is null."""
        return {
            "package": str(self.package),
            "passed": self.passed,
            "exactness": self.exactness,
            "checks": [{**vars(check), "measured": _finite(check.measured)} for check in self.checks],
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
