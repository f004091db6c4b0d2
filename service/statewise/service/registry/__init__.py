"""Finds, reads, tests and holds model versions. Never requests of callers."""

from statewise.service.registry._models import Entry, LoadedModel, Models, Status

__all__ = ["Entry", "LoadedModel", "Models", "Status"]
