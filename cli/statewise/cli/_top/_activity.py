"""Computes what a server did between two of its reports, and lays it out as a table.

This module only makes values and renderables: it neither talks to a server nor prints.
"""

from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from statewise.client import ModelStats, ServerStats


@dataclass(frozen=True)
class ModelActivity:
    """The activity of one model version."""

    model: str
    version: int
    sessions: int
    steps_per_s: float
    requests_per_s: float
    errors_per_s: float
    """Failed rows a second."""
    latency_p50_s: float | None
    """None if no request was answered."""
    latency_p99_s: float | None
    rows_per_batch: float | None
    """None if the engine did not run."""
    queued_steps: int
    state_bytes: int


@dataclass(frozen=True)
class Activity:
    """The activity of a server between two reports."""

    at: datetime
    """Time of the later report."""
    streams: int
    cpu_cores: float
    """Processor time divided by elapsed time."""
    resident_bytes: int
    models: tuple[ModelActivity, ...]


def activity(earlier: ServerStats, later: ServerStats) -> Activity:
    """Computes the activity between two reports."""
    elapsed_s = max((later.at - earlier.at).total_seconds(), 1e-6)
    before = {(stats.model, stats.version): stats for stats in earlier.models}
    return Activity(
        at=later.at,
        streams=later.streams,
        cpu_cores=max(0.0, later.cpu_seconds - earlier.cpu_seconds) / elapsed_s,
        resident_bytes=later.resident_bytes,
        models=tuple(
            _model(before.get((stats.model, stats.version)), stats, elapsed_s) for stats in later.models
        ),
    )


def screen(report: Activity, target: str) -> RenderableType:
    """Lays out one line about the process, and a table of its models."""
    head = Text.assemble(
        (target, "bold"),
        f"  {report.at.astimezone():%H:%M:%S}",
        f"  {report.streams:,} {'stream' if report.streams == 1 else 'streams'}",
        f"  {report.cpu_cores:.0%} of a core",
        f"  {_bytes(report.resident_bytes)} resident",
    )
    right = ("sessions", "steps/s", "requests/s", "p50", "p99", "rows/run", "queued", "errors/s", "state")
    table = Table("model", box=box.SIMPLE_HEAD, show_footer=len(report.models) > 1)
    for name in right:
        table.add_column(name, justify="right")
    for model in report.models:
        table.add_row(escape(f"{model.model}/{model.version}"), *_row(model))
    if table.show_footer:
        for column, total in zip(table.columns, _totals(report.models), strict=True):
            column.footer = total
    return Group(head, table if report.models else Text("\nNo model is served."))


def _model(earlier: ModelStats | None, later: ModelStats, elapsed_s: float) -> ModelActivity:
    def rise(name: str) -> int:
        # A version that was unloaded and loaded again counts from zero.
        total: int = getattr(later, name)
        before: int = getattr(earlier, name) if earlier is not None else 0
        return total - before if total >= before else total

    batches = rise("batches")
    return ModelActivity(
        model=later.model,
        version=later.version,
        sessions=later.sessions,
        steps_per_s=rise("steps") / elapsed_s,
        requests_per_s=rise("requests") / elapsed_s,
        errors_per_s=rise("errors") / elapsed_s,
        latency_p50_s=later.latency_p50_s,
        latency_p99_s=later.latency_p99_s,
        rows_per_batch=rise("batch_rows") / batches if batches else None,
        queued_steps=later.queued_steps,
        state_bytes=later.state_bytes,
    )


def _row(model: ModelActivity) -> tuple[str, ...]:
    return (
        f"{model.sessions:,}",
        _rate(model.steps_per_s),
        _rate(model.requests_per_s),
        _time(model.latency_p50_s),
        _time(model.latency_p99_s),
        "" if model.rows_per_batch is None else f"{model.rows_per_batch:,.1f}",
        f"{model.queued_steps:,}",
        f"[red]{_rate(model.errors_per_s)}[/red]" if model.errors_per_s else "0",
        _bytes(model.state_bytes),
    )


def _totals(models: tuple[ModelActivity, ...]) -> tuple[str, ...]:
    """Sums the columns that can be summed; empty for the others."""
    return (
        "all",
        f"{sum(model.sessions for model in models):,}",
        _rate(sum(model.steps_per_s for model in models)),
        _rate(sum(model.requests_per_s for model in models)),
        "",
        "",
        "",
        f"{sum(model.queued_steps for model in models):,}",
        _rate(sum(model.errors_per_s for model in models)),
        _bytes(sum(model.state_bytes for model in models)),
    )


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _time(value_s: float | None) -> str:
    if value_s is None:
        return ""
    return f"{value_s * 1e3:.3g} ms" if value_s < 1 else f"{value_s:.3g} s"


def _bytes(value: int) -> str:
    amount = float(value)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
