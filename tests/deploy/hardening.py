"""Holds pods to what Kubernetes calls the restricted profile, and to a root that cannot be written."""

import re
from collections.abc import Iterator

from .manifests import DOCKERFILE, Manifests, Object

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def hardening_complaints(manifests: Manifests) -> Iterator[str]:
    """What a namespace with the restricted profile would refuse, and more, one line each."""
    pod = manifests.pod
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        yield "the pod may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    if [context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")] != [
        int(user[1]),
        int(user[2]),
        int(user[2]),
    ]:
        yield f"the pod is not the image's user, {user[0]}"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"the pod has {key}"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod has a token for the API of Kubernetes"
    if pod.get("enableServiceLinks") is not False:
        yield "the pod has variables of all services"
    for volume in pod["volumes"]:
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - ALLOWED_VOLUMES - {"name"})
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"volume {volume['name']}: everybody in the container can read it"
    for container in manifests.containers:
        yield from _of_container(container)


def _of_container(container: Object) -> Iterator[str]:
    name, context = container["name"], container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: may write its root"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name}: has capabilities"
    if context.keys() - {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}:
        yield f"{name}: overrides what the pod says"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{name}: has no memory limit"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name}: has a port of the node"
    for entry in container.get("env", []):
        secret = re.search(r"(PASSWORD|KEY|TOKEN)$", entry["name"]) and not entry.get("value", "").startswith(
            "/"
        )
        if "valueFrom" in entry or secret:
            yield f"{name}: {entry['name']} holds a secret; expected a file"
