"""Writes sessions to a store, tick by tick. Knows neither requests nor gRPC."""

from statewise.service.durability._checkpoints import Checkpoints

__all__ = ["Checkpoints"]
