"""Renders the manifests of deploy/kubernetes with kubectl's kustomize, and finds objects and their parts.

A rendering is a kustomization of its own beside a copy of the project's, as a user writes one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
WORKLOADS = ("Deployment", "StatefulSet")
INSTALL = "pip install -e '.[manifests]' (make setup does so)"

Object = dict[str, Any]
"""An object of Kubernetes, or a part of one."""


@dataclass(frozen=True)
class Manifests:
    """The objects of one rendering."""

    objects: Sequence[Object]

    def of(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [one for one in self.objects if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name; None: there is none."""
        return next((one for one in self.of(kind) if one["metadata"]["name"] == name), None)

    @property
    def workload(self) -> Object:
        """The Deployment or StatefulSet, of which there is one."""
        (workload,) = self.of(*WORKLOADS)
        return workload

    @property
    def pod(self) -> Object:
        """What a pod is made of."""
        pod: Object = self.workload["spec"]["template"]["spec"]
        return pod

    @property
    def server(self) -> Object:
        """The server's container."""
        (server,) = (one for one in self.pod["containers"] if one["name"] == "server")
        return dict(server)

    @property
    def containers(self) -> list[Object]:
        """All containers of a pod, those before the server included."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the server's container."""
        return {entry["name"]: entry["value"] for entry in self.server["env"]}

    @property
    def ports(self) -> dict[str, int]:
        """Ports of the server's container by name."""
        return {port["name"]: port["containerPort"] for port in self.server["ports"]}

    @property
    def mounts(self) -> dict[str, Object]:
        """What is mounted into the server's container, by its path."""
        return {mount["mountPath"]: mount for mount in self.server["volumeMounts"]}

    @property
    def volumes(self) -> dict[str, Object]:
        """Volumes of a pod by name, those of a StatefulSet's own claims included."""
        claims = self.workload["spec"].get("volumeClaimTemplates", [])
        return {
            **{volume["name"]: volume for volume in self.pod["volumes"]},
            **{claim["metadata"]["name"]: {"claimTemplate": claim["spec"]} for claim in claims},
        }

    def probes(self) -> Iterator[tuple[str, Object]]:
        """The probes of the server's container by name."""
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in self.server:
                yield name, self.server[name]

    def mount_of(self, path: str) -> tuple[Object, Object] | None:
        """The mount below which a path of the server lies, and its volume; None: there is none."""
        below = [at for at in self.mounts if path == at or path.startswith(f"{at}/")]
        if not below:
            return None
        mount = self.mounts[max(below, key=len)]
        return mount, self.volumes.get(mount["name"], {})


def title(one: Mapping[str, Any]) -> str:
    """KIND/NAME of an object, without the hash of a ConfigMap's contents."""
    return f"{one['kind']}/{re.sub(r'-[a-z0-9]{10}$', '', one['metadata']['name'])}"


@cache
def kubectl() -> str:
    """The command, with kustomize 5; skips the test where there is none."""
    beside = Path(sys.executable).with_name("kubectl")
    command = str(beside) if beside.exists() else shutil.which("kubectl")
    if command is not None:
        told = subprocess.run([command, "version", "--client"], capture_output=True, text=True, timeout=60)
        if re.search(r"Kustomize Version: v[5-9]", told.stdout):
            return command
    pytest.skip(f"kubectl with kustomize 5 is not installed: {INSTALL}")


def render(folder: Path) -> Manifests:
    """The objects of a kustomization."""
    yaml = pytest.importorskip("yaml", reason=f"PyYAML is not installed: {INSTALL}")
    ended = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, "kustomize warns"
    return Manifests(list(yaml.safe_load_all(ended.stdout)))


def render_own(kustomization: str, folder: Path) -> Manifests:
    """The objects of a kustomization that somebody keeps beside the project's."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    own = folder / "overlays/own"
    own.mkdir(exist_ok=True)
    (own / "kustomization.yaml").write_text(kustomization)
    return render(own)


def read_rules() -> list[Object]:
    """The rules of prometheus-adapter that the autoscaler needs."""
    yaml = pytest.importorskip("yaml", reason=f"PyYAML is not installed: {INSTALL}")
    rules: list[Object] = yaml.safe_load((FOLDER / "components/autoscaling/adapter-rules.yaml").read_text())[
        "rules"
    ]
    return rules
