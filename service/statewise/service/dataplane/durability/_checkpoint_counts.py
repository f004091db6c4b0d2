"""Counts what checkpoints have written."""

from dataclasses import dataclass, field

from statewise.service.stores import Usage


@dataclass
class CheckpointCounts:
    """What has been written so far.

    Attributes:
        ticks: Blocks that were written.
        stored_bytes: Bytes of these blocks.
        rows: Sessions in these blocks.
        failures: Blocks that the store did not take.
        losses: How often the store came back without its sessions, and was begun anew.
        tick_s: Duration of the last tick.
        kept: What the store has, about a second ago.
        asleep: How many of its sessions were not in memory here.
    """

    ticks: int = 0
    stored_bytes: int = 0
    rows: int = 0
    failures: int = 0
    losses: int = 0
    tick_s: float = 0.0
    kept: Usage = Usage(0, 0)  # noqa: RUF009 - immutable
    asleep: int = 0
    why_away: str = field(default="")
    """Why the store took nothing when it was last used; empty: it works."""
