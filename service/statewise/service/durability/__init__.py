"""Writes sessions to a store, and finds them there again. Knows neither requests nor gRPC."""

from statewise.service.durability._gathering import gather, names_of

__all__ = ["gather", "names_of"]
