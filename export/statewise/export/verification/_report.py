"""Defines the report of a verification: checks with numbers, and the class of the model."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from statewise.wire import Exactness


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: The two sides of the comparison, in a few words.
        passed: Whether the check passed.
        detail: The finding, in a sentence.
        measured: The largest difference found; None where the check measures none.
        bound: Upper limit of `measured`; the limit itself fails.
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
        package: The verified package or file.
        checks: In the order they were made; a check that makes later ones impossible ends the list.
        exactness: None where the graph was not run.
    """

    package: Path
    checks: tuple[Check, ...]
    exactness: Exactness | None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Turns the report into plain JSON values; JSON knows no infinity: an infinite difference is null."""
        return {
            "package": str(self.package),
            "passed": self.passed,
            "exactness": self.exactness,
            "checks": [{**vars(check), "measured": _finite(check.measured)} for check in self.checks],
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
