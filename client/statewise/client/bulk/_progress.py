"""Reports the progress of a long run, as numbers and as a line on a terminal."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from statewise.client.values import check_flag

_REDRAW_S = 0.1
_FIRST_S = 0.5  # a rate measured over less time means nothing
_BAR = 24


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run.

    Attributes:
        done: rows done, counted from the source's beginning.
        failed: rows of this run that failed.
        total: rows of the source; None: not known.
        scored: rows that this run has done; fewer than `done` if it skipped some.
        elapsed_s: seconds since this run began.
        ended: this is the last report.
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
"""Called with the progress of a run at intervals."""


class Meter:
    """Counts results and reports them at most every 0.1 s.

    Args:
        report: called with the progress.
        clock: monotonic seconds.
        total: rows of the source; None: not known.
        done: rows that were skipped.
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
        """Counts one row."""
        self._scored += 1
        self._failed += failed
        if self._clock() >= self._next_s:
            self._send()

    def close(self) -> None:
        """Reports for the last time."""
        self._send(ended=True)

    def _send(self, *, ended: bool = False) -> None:
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
    """Turns the option `progress` into a report. True draws a line if standard error is a terminal."""
    if callable(progress):
        return progress
    check_flag("progress", progress)
    return drawing(sys.stderr) if progress and sys.stderr.isatty() else None


def drawing(terminal: TextIO) -> Report:
    """Makes a report that redraws one line of a terminal."""

    def draw(progress: Progress) -> None:
        terminal.write(f"\r\x1b[K{progress}" + "\n" * progress.ended)
        terminal.flush()

    return draw


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
