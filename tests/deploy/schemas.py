"""Holds objects to the schemas of Kubernetes, strictly, and custom resources to schemas of these tests."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .manifests import INSTALL, Manifests, Object, title

OLDEST = "1.30"
"""The release of Kubernetes that the manifests need: before, a preStop hook sleeps with a shell only."""
CUSTOM = {"ServiceMonitor": Path(__file__).with_name("service_monitor.json")}
SOURCES = {
    "probe": {"exec", "grpc", "httpGet", "tcpSocket"},
    "volume": {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    },
}
"""Parts of which a probe, and a volume, has one. The schemas allow several."""


def schema_complaints(manifests: Manifests, release: str) -> Iterator[str]:
    """What the API of a release of Kubernetes would refuse, one line each."""
    for one in manifests.objects:
        complaint = _complaint(json.dumps(one, sort_keys=True), release)
        if complaint:
            yield f"{title(one)}: {complaint}"
    if len(titles := [title(one) for one in manifests.objects]) != len(set(titles)):
        yield f"two objects of one name: {sorted(titles)}"
    if len(manifests.of("Deployment", "StatefulSet")) != 1:
        yield "expected one Deployment or StatefulSet"
        return
    for name, probe in manifests.probes():
        yield from _one_of(name, probe, "probe")
    for volume in manifests.pod["volumes"]:
        yield from _one_of(f"volume {volume['name']}", volume, "volume")


def newest_release() -> str:
    """The newest release of Kubernetes whose schemas are installed."""
    return str(_library().latest_version())


def _library() -> Any:
    return pytest.importorskip(
        "kubernetes_validate", reason=f"kubernetes-validate is not installed: {INSTALL}"
    )


@cache
def _complaint(text: str, release: str) -> str:
    """What is wrong with an object, given as JSON; empty: nothing."""
    library = _library()
    jsonschema = pytest.importorskip("jsonschema")  # kubernetes-validate brings it
    one: Object = json.loads(text)
    try:
        if one["kind"] in CUSTOM:
            jsonschema.validate(one, json.loads(CUSTOM[one["kind"]].read_text()))
        else:
            library.validate(one, release, strict=True)
    except jsonschema.ValidationError as error:
        return _told(error)
    except library.SchemaNotFoundError as error:
        return str(error.message)
    return ""


def _told(error: Any) -> str:
    place, words = ".".join(str(part) for part in error.path), " ".join(error.message.split())
    return f"{place}: {words[:300]}"


def _one_of(name: str, part: Object, kind: str) -> Iterator[str]:
    found = SOURCES[kind] & part.keys()
    if len(found) != 1:
        yield f"{name}: expected one of {', '.join(sorted(SOURCES[kind]))}; got {sorted(found)}"
