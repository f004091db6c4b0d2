"""Holds the objects of a rendering to each other: names of objects, volumes, ports, labels, images."""

import tomllib
from collections.abc import Iterator

from .manifests import DOCKERFILE, ROOT, Manifests

RELEASE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def name_complaints(manifests: Manifests) -> Iterator[str]:
    """Names that name nothing, one line each."""
    for check in (_references, _ports, _selectors, _images):
        yield from check(manifests)


def _references(manifests: Manifests) -> Iterator[str]:
    for container in manifests.containers:
        for mount in container["volumeMounts"]:
            if mount["name"] not in manifests.volumes:
                yield f"there is no volume {mount['name']}"
            if "subPath" in mount:
                yield f"{mount['mountPath']}: what is mounted by subPath does not follow changes"
    for name, volume in manifests.volumes.items():
        for source, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if source in volume and manifests.named(kind, volume[source][key]) is None:
                yield f"volume {name}: there is no {kind} {volume[source][key]}"
    used = {mount["name"] for container in manifests.containers for mount in container["volumeMounts"]}
    yield from (f"nothing mounts the volume {name}" for name in manifests.volumes.keys() - used)
    yield from (f"{one['metadata']['name']}: a Secret in the manifests" for one in manifests.of("Secret"))
    claimed = {
        volume.get("persistentVolumeClaim", {}).get("claimName") for volume in manifests.volumes.values()
    }
    for claim in manifests.of("PersistentVolumeClaim"):
        if claim["metadata"]["name"] not in claimed:
            yield f"nothing uses the claim {claim['metadata']['name']}"


def _ports(manifests: Manifests) -> Iterator[str]:
    ports = manifests.ports
    if f"EXPOSE {ports.get('grpc')}\n" not in DOCKERFILE:
        yield "the port grpc is another one in the image"
    for service in manifests.of("Service"):
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports or port["name"] != port["targetPort"]:
                yield f"Service {service['metadata']['name']}: {port['targetPort']} is no port of the pod"
            elif port["port"] != ports[port["targetPort"]]:
                yield f"Service {service['metadata']['name']}: {port['port']} is not {port['targetPort']}"
    for policy in manifests.of("NetworkPolicy"):
        opened = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        yield from (f"NetworkPolicy: {port} is no port of the pod" for port in opened if port not in ports)
        if sorted(opened) != sorted(ports.keys() - {"health"}):
            yield f"NetworkPolicy: opens {opened}; expected all ports but health, each once"
        if not all(rule.get("from") for rule in policy["spec"]["ingress"]):
            yield "NetworkPolicy: lets everybody in"
        if sorted(policy["spec"]["policyTypes"]) != ["Egress", "Ingress"]:
            yield "NetworkPolicy: expected both directions"


def _selectors(manifests: Manifests) -> Iterator[str]:
    labels = manifests.workload["spec"]["template"]["metadata"]["labels"]
    selectors = [
        ("the workload", manifests.workload["spec"]["selector"]["matchLabels"]),
        *((f"Service {one['metadata']['name']}", one["spec"]["selector"]) for one in manifests.of("Service")),
        *(
            (one["kind"], one["spec"]["selector"]["matchLabels"])
            for one in manifests.of("PodDisruptionBudget")
        ),
        *((one["kind"], one["spec"]["podSelector"]["matchLabels"]) for one in manifests.of("NetworkPolicy")),
        *(
            ("topologySpreadConstraints", one["labelSelector"]["matchLabels"])
            for one in manifests.pod.get("topologySpreadConstraints", [])
        ),
    ]
    for name, selector in selectors:
        if not (selector and selector.items() <= labels.items()):
            yield f"{name}: {selector} selects no pod"
    for budget in manifests.of("PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") != 1:
            yield "PodDisruptionBudget: expected that one pod may go, also where there is only one"
    yield from _headless(manifests)


def _headless(manifests: Manifests) -> Iterator[str]:
    headless = {one["metadata"]["name"]: one["spec"].get("clusterIP") for one in manifests.of("Service")}
    if headless != {"statewise": None, "statewise-replicas": "None"}:
        yield f"expected a balanced and a headless service; got {headless}"
    for one in manifests.of("StatefulSet"):
        if one["spec"]["serviceName"] != "statewise-replicas":
            yield f"{one['spec']['serviceName']} is no headless service"


def _images(manifests: Manifests) -> Iterator[str]:
    for container in manifests.containers:
        name, _, tag = container["image"].rpartition(":")
        if name not in ("statewise", "statewise-samples") or tag != RELEASE:
            yield f"{container['image']}: expected an image of the project's release, {RELEASE}"
