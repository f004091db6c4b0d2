"""Holds the settings that a pod gives its server to the pod: flags, ports, paths, times, sizes, probes.

`settings_of` reads the settings as the server in the pod would.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from statewise.cli._serve import serve
from statewise.service import Settings, SettingsError
from statewise.service.transport import TransportError, check_exposure

from .manifests import DOCKERFILE, ROOT, Manifests

PAGE = (ROOT / "docs/kubernetes.md").read_text()
PREFIX = "STATEWISE_"
PORT_OF_SETTING = {"listen": "grpc", "health_listen": "health", "metrics_listen": "metrics"}
SPARE_BYTES = 256 * 2**20
CUT_S = 15.0
"""What thousands of cut streams may take beyond grace_s."""
LONGEST_HEALTH_S = 2.0
"""/healthz may take this long to answer that the event loop does not."""


def settings_complaints(manifests: Manifests, files: Path) -> Iterator[str]:
    """Where server and pod do not fit together, one line each.

    Args:
        manifests: The objects.
        files: Folder that stands for the root of the server's container.
    """
    yield from _variables(manifests)
    yield from _flags(manifests)
    try:
        settings = settings_of(manifests, files)
    except SettingsError as error:
        yield f"settings: {error}"
        return
    for check in (_addresses, _exposure, _egress, _probes, _times, _memory):
        yield from check(manifests, settings)
    yield from _paths(manifests, settings, files)


def settings_of(manifests: Manifests, files: Path, **changes: Any) -> Settings:
    """The settings of the server in the pod, with its folders below `files`. Raises SettingsError."""
    file = files / "etc/statewise/server.toml"
    (config,) = manifests.of("ConfigMap")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config["data"].get("server.toml", ""))
    given: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): re.sub(r"^(sqlite:)?/", rf"\g<1>{files}/", value)
        for name, value in manifests.environment.items()
        if name.startswith(PREFIX)
    }
    return Settings.load(config=file, **{**given, **changes})


def _variables(manifests: Manifests) -> Iterator[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in manifests.environment.keys() - known - {"SQLITE_TMPDIR"}:
        yield f"{name}: there is no such setting"
    (config,) = manifests.of("ConfigMap")
    if config["data"].keys() != {"server.toml"}:
        yield f"the ConfigMap holds {sorted(config['data'])}"


def _flags(manifests: Manifests) -> Iterator[str]:
    if "command" in manifests.server or 'ENTRYPOINT ["statewise", "serve"]' not in DOCKERFILE:
        yield "the container's command is the image's, `statewise serve`"
    words = manifests.server["args"]
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(serve).parameters}
    yield from (
        f"{word}: `statewise serve` has no such flag"
        for word in words
        if word[0] == "-" and word not in flags
    )
    if words[:1] != ["--config"] or manifests.mount_of(words[1]) is None:
        yield f"{words}: the settings file is not mounted there"
    elif "configMap" not in (manifests.mount_of(words[1]) or ({}, {}))[1]:
        yield f"{words}: the settings file is not that of the ConfigMap"


def _addresses(manifests: Manifests, settings: Settings) -> Iterator[str]:
    for setting, port in PORT_OF_SETTING.items():
        address = getattr(settings, setting)
        expected = f"0.0.0.0:{manifests.ports[port]}" if port in manifests.ports else ""
        if address != expected:
            yield f"{setting} = {address!r}: the container's port {port} says {expected!r}"


def _exposure(manifests: Manifests, settings: Settings) -> Iterator[str]:
    try:
        check_exposure(settings)
    except TransportError as error:
        yield str(error)
    if settings.tls_certificate is not None and settings.insecure:
        yield "insecure, with TLS"


def _egress(manifests: Manifests, settings: Settings) -> Iterator[str]:
    """The server may reach its store, and nobody else but the cluster's DNS."""
    store = urlsplit(settings.store if settings.store_kind == "redis" else "")
    for policy in manifests.of("NetworkPolicy"):
        opened = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
        expected = {store.port, 53} if store.port else set()
        if opened != expected:
            yield f"NetworkPolicy: lets the server reach ports {opened}; expected {expected}"
    if store.password is not None:
        yield "the address of the store holds a password"


def _probes(manifests: Manifests, settings: Settings) -> Iterator[str]:
    probes = dict(manifests.probes())
    if len(probes) != 3:
        yield f"expected three probes; got {sorted(probes)}"
    for name, probe in probes.items():
        if "grpc" in probe and settings.tls_certificate is not None:
            yield f"{name}: the kubelet cannot speak gRPC with TLS"
        if "grpc" in probe and probe["grpc"]["port"] != manifests.ports["grpc"]:
            yield f"{name}: {probe['grpc']['port']} is not the port grpc"
        if probe.get("grpc", {}).get("service"):
            yield f"{name}: expected the server as a whole"
        if not probe.keys() & {"grpc", "httpGet"}:
            yield f"{name}: expected gRPC or HTTP"
        if "httpGet" in probe and probe["httpGet"]["port"] != "health":
            yield f"{name}: {probe['httpGet']['port']} is not the port health"
        path = "/healthz" if name == "livenessProbe" else "/readyz"
        if "httpGet" in probe and probe["httpGet"]["path"] != path:
            yield f"{name}: expected {path}"
        if name == "livenessProbe" and "grpc" in probe:
            yield f"{name}: gRPC tells readiness, and a server that is only not ready is not to be restarted"
        if probe["timeoutSeconds"] <= LONGEST_HEALTH_S:
            yield f"{name}: gives up before /healthz says no"


def _times(manifests: Manifests, settings: Settings) -> Iterator[str]:
    pod = manifests.pod
    sleep_s = manifests.server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if sleep_s < 1:
        yield "preStop: the pod stops before balancers have dropped it"
    if pod["terminationGracePeriodSeconds"] < sleep_s + settings.grace_s + CUT_S:
        yield f"terminationGracePeriodSeconds: expected {CUT_S:g} s more than preStop and grace_s together"
    startup = manifests.server["startupProbe"]
    waited_s = startup["periodSeconds"] * startup["failureThreshold"]
    if waited_s < settings.startup_s + 60:
        yield f"startupProbe: waits {waited_s} s; expected a minute more than startup_s"
    for one in manifests.of("Deployment"):
        if one["spec"]["progressDeadlineSeconds"] <= waited_s + one["spec"]["minReadySeconds"]:
            yield "progressDeadlineSeconds: expected more than the startup probe waits"


def _memory(manifests: Manifests, settings: Settings) -> Iterator[str]:
    limit = _bytes(manifests.server["resources"]["limits"]["memory"])
    if settings.state_bytes + settings.prediction_bytes > limit - SPARE_BYTES:
        yield "the server is full only beyond its memory limit"


def _paths(manifests: Manifests, settings: Settings, files: Path) -> Iterator[str]:
    paths = {
        name: "/" + value.relative_to(files).as_posix()
        for name in Settings.model_fields
        if isinstance(value := getattr(settings, name), Path) and value.is_relative_to(files)
    }
    documented = dict(re.findall(r"^\| `(/run/statewise/[\w./-]+)` \| `([\w-]+)` \|", PAGE, re.MULTILINE))
    for name, path in paths.items():
        found = manifests.mount_of(path)
        if found is None:
            yield f"{name} = {path!r}: nothing is mounted there"
            continue
        mount, volume = found
        if not mount.get("readOnly"):
            yield f"{name} = {path!r}: expected a mount that cannot be written"
        if name != "repository" and volume.get("secret", {}).get("secretName") != documented.get(path):
            yield f"{name} = {path!r}: expected the Secret that docs/kubernetes.md names"
    if settings.store_kind == "sqlite":
        yield from _sqlite(manifests)
    if "repository" not in paths:
        yield "the repository is not mounted"


def _sqlite(manifests: Manifests) -> Iterator[str]:
    path = manifests.environment["STATEWISE_STORE"].removeprefix("sqlite:")
    for at in (path, manifests.environment.get("SQLITE_TMPDIR", "")):
        mount, volume = manifests.mount_of(at) or ({}, {})
        if "claimTemplate" not in volume or mount.get("readOnly"):
            yield f"{at!r}: expected a volume of the pod's own that can be written"
        elif volume["claimTemplate"]["accessModes"] not in (["ReadWriteOnce"], ["ReadWriteOncePod"]):
            yield f"{at!r}: expected a volume that one node alone has"


def _bytes(quantity: str) -> int:
    units = {"Gi": 2**30, "Mi": 2**20}
    return int(quantity[:-2]) * units[quantity[-2:]]
