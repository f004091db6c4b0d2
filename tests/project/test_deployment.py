"""docker/ beside the rest of the project: what is written twice is the same. tests/docker runs it all."""

import json
import re
import tomllib
from pathlib import Path

from statewise.service import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = (ROOT / "docker/compose.yaml").read_text()
HAPROXY = (ROOT / "docker/haproxy/haproxy.cfg").read_text()
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/statewise.json").read_text())
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}

MIB = 2**20
HOUR_S = 3600


def number(pattern: str, text: str) -> int:
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return int(found)


def test_image_and_project_have_one_release() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'image.version="{release}"' in DOCKERFILE
    assert f"image: statewise-samples:{release}" in COMPOSE


def test_variables_of_the_containers_are_settings() -> None:
    entries = set(re.findall(r"^ +(?:[A-Z ]*)STATEWISE_(\w+)[:=]", COMPOSE + DOCKERFILE, re.MULTILINE))
    assert {"insecure", "listen", "repository"} <= {entry.lower() for entry in entries} <= DEFAULTS.keys()


def test_the_server_refuses_before_its_container_is_full() -> None:
    server = COMPOSE[COMPOSE.index("  server:") : COMPOSE.index("  haproxy:")]
    held = number(r"STATEWISE_STATE_BYTES: (\d+)$", server) + number(r"PREDICTION_BYTES: (\d+)$", server)
    assert held <= number(r"mem_limit: (\d+)g$", server) * 1024 * MIB - 256 * MIB


def test_docker_waits_longer_than_the_server_drains() -> None:
    assert number(r"stop_grace_period: (\d+)s$", COMPOSE) > DEFAULTS["grace_s"]


def test_haproxy_holds_a_silent_stream_longer_than_the_server_its_sessions() -> None:
    for side in ("client", "server"):
        assert number(rf"^ +timeout {side} (\d+)h$", HAPROXY) * HOUR_S > DEFAULTS["idle_timeout_s"]


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    documented = set(
        re.findall(r"^\| `(statewise_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    )
    queries = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    asked = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"statewise_\w+", queries)}
    assert asked
    assert asked <= documented
