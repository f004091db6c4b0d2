"""Puts all checks of a rendering together."""

from pathlib import Path

from .hardening import hardening_complaints
from .manifests import Manifests, Object
from .names import name_complaints
from .scaling import scaling_complaints
from .schemas import schema_complaints
from .served_settings import settings_complaints


def complaints_of(manifests: Manifests, files: Path, rules: list[Object], *, release: str) -> list[str]:
    """What is wrong, one line each. Where objects do not fit their schemas, nothing else is looked at.

    Args:
        manifests: The objects.
        files: Folder that stands for the root of the server's container, with its secrets.
        rules: Rules of prometheus-adapter.
        release: Of Kubernetes.
    """
    found = list(schema_complaints(manifests, release))
    return found or [
        *name_complaints(manifests),
        *settings_complaints(manifests, files),
        *scaling_complaints(manifests, rules),
        *hardening_complaints(manifests),
    ]
