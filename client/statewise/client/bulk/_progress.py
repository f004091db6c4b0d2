"""How far a long run has come, as numbers and as a line on a terminal."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_REDRAW_S = 0.1
_FIRST_S = 0.5  # a rate of less time than that means nothing
_BAR = 24


@dataclass(frozen=True, slots=True)
class Progress:
    """A run under way.

    Attributes:
        done: rows behind it, from the source's beginning.
        failed: how many of those that this run has seen failed.
        total: rows of the source; None: not known.
        scored: rows that this run has done; fewer than `done` where it began later.
        elapsed_s: since this run began.
        ended: nothing follows.
    """

    done: int
    failed: int
    total: int | None
    scored: int
    elapsed_s: float
    ended: bool = False

    @property
    def rows_per_s(self) -> float:
        """Mean rate of this run."""
        return self.scored / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at that rate; None: not known."""
        if self.total is None or not self.rows_per_s:
            return None
        return max(self.total - self.done, 0) / self.rows_per_s

    def __str__(self) -> str:
        words = [f"{self.done:,}" + ("" if self.total is None else f"/{self.total:,}") + " rows"]
        words.append(f"{self.rows_per_s:,.0f}/s")
        if self.left_s is not None:
            words.append(f"{_clock(self.left_s)} left")
        if self.failed:
            words.append(f"{self.failed:,} failed")
        bar = ""
        if self.total:
            filled = min(_BAR * self.done // self.total, _BAR)
            bar = f"[{'=' * filled}{' ' * (_BAR - filled)}] "
        return bar + "  ".join(words)


Report = Callable[[Progress], None]
"""Is told how far a run has come, now and then."""


class Meter:
    """Counts results and reports, not too often.

    Args:
        report: is told.
        clock: monotonic seconds.
        total: rows of the source; None: not known.
        done: rows that were done before.
    """

    def __init__(self, report: Report, *, clock: Callable[[], float], total: int | None, done: int) -> None:
        self._report = report
        self._clock = clock
        self._total = total
        self._before = done
        self._scored = 0
        self._failed = 0
        self._begun_s = clock()
        self._next_s = self._begun_s + _FIRST_S

    def count(self, *, failed: bool) -> None:
        """One more row is done."""
        self._scored += 1
        self._failed += failed
        if self._clock() >= self._next_s:
            self._tell()

    def close(self) -> None:
        """Reports for the last time."""
        self._tell(ended=True)

    def _tell(self, *, ended: bool = False) -> None:
        now_s = self._clock()
        self._next_s = now_s + _REDRAW_S
        self._report(
            Progress(
                self._before + self._scored,
                self._failed,
                self._total,
                self._scored,
                now_s - self._begun_s,
                ended,
            )
        )


def report_of(progress: bool | Report) -> Report | None:
    """What a caller asked for: to be told, or a line on standard error where that is a terminal."""
    if not isinstance(progress, bool):
        return progress
    return drawing(sys.stderr) if progress and sys.stderr.isatty() else None


def drawing(terminal: TextIO) -> Report:
    """A report that keeps one line of a terminal up to date."""

    def draw(progress: Progress) -> None:
        terminal.write(f"\r\x1b[K{progress}" + "\n" * progress.ended)
        terminal.flush()

    return draw


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
