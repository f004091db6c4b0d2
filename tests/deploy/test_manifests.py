"""The manifests as they are: every rendering fits the schemas, itself, the server and the page about it."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .complaints import complaints_of
from .conftest import RENDERINGS
from .manifests import FOLDER, Manifests, Object, kubectl, render, render_own
from .schemas import OLDEST, newest_release
from .served_settings import PAGE

Rendered = Callable[[str], Manifests]


@pytest.mark.parametrize("name", RENDERINGS)
def test_nothing_is_wrong_with_a_rendering(
    rendered: Rendered, files: Path, rules: list[Object], name: str
) -> None:
    assert complaints_of(rendered(name), files, rules, release=newest_release()) == []
    assert complaints_of(rendered(name), files, rules, release=OLDEST) == []


def test_the_overlays_are_workloads_of_their_kinds(rendered: Rendered) -> None:
    assert rendered("sqlite").workload["kind"] == "StatefulSet"
    assert rendered("redis").workload["kind"] == "Deployment"
    for overlay in ("sqlite", "redis"):
        assert render(FOLDER / "overlays" / overlay).objects == rendered(overlay).objects


def test_one_component_of_models_replaces_the_other(rendered: Rendered) -> None:
    of_image, on_volume = (
        rendered("sqlite with models of an image"),
        rendered("redis with models on a volume"),
    )
    assert [one["name"] for one in of_image.pod["initContainers"]] == ["models"]
    assert not of_image.of("PersistentVolumeClaim")
    assert not on_volume.pod.get("initContainers")
    assert on_volume.named("PersistentVolumeClaim", "statewise-models")


def test_the_probes_are_grpc_without_tls_and_http_with_it(rendered: Rendered) -> None:
    for name, asked in (("redis", "grpc"), ("redis with everything", "httpGet")):
        probes = dict(rendered(name).probes())
        assert asked in probes["startupProbe"]
        assert asked in probes["readinessProbe"]
        assert "httpGet" in probes["livenessProbe"]


def test_a_changed_settings_file_is_another_config_map(rendered: Rendered, tmp_path: Path) -> None:
    own = tmp_path / "overlays/own"
    own.mkdir(parents=True)
    (own / "server.toml").write_text((FOLDER / "base/server.toml").read_text() + "queue_s = 1.0\n")
    replaced = (
        "resources: [../sqlite]\nconfigMapGenerator:\n"
        "  - { name: statewise-settings, behavior: replace, files: [server.toml] }\n"
    )
    (before,) = rendered("sqlite").of("ConfigMap")
    manifests = render_own(replaced, tmp_path)
    (after,) = manifests.of("ConfigMap")
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert {"configMap": {"name": after["metadata"]["name"]}, "name": "settings"} in manifests.pod["volumes"]


def test_the_page_names_every_secret_that_pods_need_and_no_other(rendered: Rendered) -> None:
    documented = set(re.findall(r"^\| `/run/statewise/[\w./-]+` \| `([\w-]+)` \|", PAGE, re.MULTILINE))
    needed = {
        volume["secret"]["secretName"]
        for name in RENDERINGS
        for volume in rendered(name).pod["volumes"]
        if "secret" in volume
    }
    assert documented == needed


def test_the_commands_of_the_page_create_these_secrets(files: Path, tmp_path: Path) -> None:
    for file in files.rglob("*"):
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "redis.password").write_text("a password")
    commands = re.findall(r"^(.*kubectl .*create secret.*)$", PAGE, re.MULTILINE)
    assert commands
    made: set[tuple[str, str]] = set()
    for command in commands:
        ended = subprocess.run(
            ["sh", "-c", f"{command} --dry-run=client -o json"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{Path(kubectl()).parent}:{os.environ['PATH']}",
                "KUBECONFIG": "/dev/null",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        secret = json.loads(ended.stdout)
        made |= {(secret["metadata"]["name"], key) for key in secret["data"]}
    listed = re.findall(r"^\| `/run/statewise/[\w-]+/([\w.]+)` \| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert made == {(name, key) for key, name in listed}


def test_the_overlay_of_the_page_is_one(tmp_path: Path, rendered: Rendered) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "overlays/own").mkdir(parents=True)
    (tmp_path / "overlays/own/server.toml").write_text((FOLDER / "base/server.toml").read_text())
    manifests = render_own(example, tmp_path)
    assert {one["metadata"]["namespace"] for one in manifests.objects} == {"statewise"}
    images = [container["image"] for container in manifests.containers]
    assert images == ["registry.example/models:7", "registry.example/statewise:0.1.0"]
    for one in copy.deepcopy(manifests.objects):
        del one["metadata"]["namespace"]
        everything = rendered("redis with everything").named(one["kind"], one["metadata"]["name"])
        assert one == everything or one["kind"] == "Deployment"


def test_the_folder_is_as_the_page_says() -> None:
    for folder in ("overlays", "components"):
        there = {path.name for path in (FOLDER / folder).iterdir()}
        assert there <= set(re.findall(r"`(?:overlays/|components/)?([\w-]+)`", PAGE))
