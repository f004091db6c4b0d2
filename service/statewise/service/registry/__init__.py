"""Tests, loads and finds model versions. Never sees the requests of callers."""

from statewise.service.registry._inspector_pool import InspectorPool
from statewise.service.registry._loaded_model import LoadedModel, VersionState, VersionStatus
from statewise.service.registry._model_registry import ModelRegistry
from statewise.service.registry._repository import scan_repository

__all__ = [
    "InspectorPool",
    "LoadedModel",
    "ModelRegistry",
    "VersionState",
    "VersionStatus",
    "scan_repository",
]
