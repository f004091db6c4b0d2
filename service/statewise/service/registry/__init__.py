"""Reads, tests, loads and finds model versions. Never sees the requests of callers."""

from statewise.service.registry._loaded_model import LoadedModel, VersionState, VersionStatus
from statewise.service.registry._model_registry import ModelRegistry
from statewise.service.registry._package import read_package
from statewise.service.registry._repository import scan_repository

__all__ = [
    "LoadedModel",
    "ModelRegistry",
    "VersionState",
    "VersionStatus",
    "read_package",
    "scan_repository",
]
