"""Finds, reads, tests and holds model versions. Never requests of callers."""

from statewise.service.registry._model_registry import LoadedModel, ModelRegistry, VersionState, VersionStatus

__all__ = [
    "LoadedModel",
    "ModelRegistry",
    "VersionState",
    "VersionStatus",
]
