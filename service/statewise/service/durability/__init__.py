"""Writes sessions to a store, tick by tick. Knows neither requests nor gRPC."""

from statewise.service.durability._checkpoints import Checkpoints
from statewise.service.durability._opening import open_store

__all__ = ["Checkpoints", "open_store"]
