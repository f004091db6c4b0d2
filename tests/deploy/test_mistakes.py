"""Changes one thing in each object of the manifests: every such mistake is found."""

import copy
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .complaints import complaints_of
from .conftest import RENDERINGS
from .manifests import Manifests, Object, title
from .schemas import newest_release

Rendered = Callable[[str], Manifests]


class Removed(Enum):
    """Stands for a field that is left out; with the same name in every process of the tests."""

    REMOVED = "removed"


REMOVED = Removed.REMOVED
POD = "spec template spec"
SERVER = f"{POD} containers server"
SQLITE, REDIS, ALL = "sqlite", "redis", "redis with everything"
SETTINGS = "data server.toml"


class Mistake(NamedTuple):
    """One value of one object, and words that say what is wrong with it.

    `path` holds keys, and numbers or names of list entries; "-" appends to a list.
    """

    rendering: str
    object: str
    path: str
    value: Any
    words: str


MISTAKES = [
    Mistake(SQLITE, "ConfigMap/statewise-settings", SETTINGS, "grase_s = 20", "no such setting; is grace_s"),
    Mistake(SQLITE, "ConfigMap/statewise-settings", SETTINGS, "grace_s = '20 s'", "expected a number"),
    Mistake(SQLITE, "ConfigMap/statewise-settings", SETTINGS, "grace_s = 60", "than preStop and grace_s"),
    Mistake(
        SQLITE, "ConfigMap/statewise-settings", SETTINGS, "startup_s = 3600", "a minute more than startup_s"
    ),
    Mistake(
        SQLITE, "ConfigMap/statewise-settings", SETTINGS, "sessions = 1", "full only beyond its memory limit"
    ),
    Mistake(SQLITE, "ConfigMap/statewise-settings", "data", {"statewise.toml": ""}, "the ConfigMap holds"),
    Mistake(SQLITE, "Service/statewise", "spec selector", {"app": "statewise"}, "selects no pod"),
    Mistake(SQLITE, "Service/statewise", "spec ports grpc targetPort", "http", "http is no port of the pod"),
    Mistake(SQLITE, "Service/statewise", "spec ports grpc port", 443, "443 is not grpc"),
    Mistake(SQLITE, "Service/statewise", "spec ports grpc port", "grpc", "is not of type 'integer'"),
    Mistake(
        SQLITE, "Service/statewise-replicas", "spec clusterIP", REMOVED, "a balanced and a headless service"
    ),
    Mistake(SQLITE, "Service/statewise-replicas", "spec clusterIp", "None", "clusterIp"),
    Mistake(
        SQLITE,
        "PersistentVolumeClaim/statewise-models",
        "metadata name",
        "models",
        "no PersistentVolumeClaim",
    ),
    Mistake(
        SQLITE, "PersistentVolumeClaim/statewise-models", "spec accessMode", "ReadWriteMany", "accessMode"
    ),
    Mistake(SQLITE, "PodDisruptionBudget/statewise", "spec maxUnavailable", 0, "one pod may go"),
    Mistake(SQLITE, "PodDisruptionBudget/statewise", "spec selector matchLabels", {}, "selects no pod"),
    Mistake(SQLITE, "NetworkPolicy/statewise", "spec ingress 0 from", REMOVED, "lets everybody in"),
    Mistake(
        SQLITE, "NetworkPolicy/statewise", "spec ingress 0 ports 0 port", "health", "all ports but health"
    ),
    Mistake(SQLITE, "NetworkPolicy/statewise", "spec egress", [{"ports": [{"port": 443}]}], "reach ports"),
    Mistake(REDIS, "NetworkPolicy/statewise", "spec egress 0 ports 0 port", 6380, "reach ports"),
    Mistake(SQLITE, "NetworkPolicy/statewise", "spec policyTypes", ["Ingress"], "both directions"),
    Mistake(
        ALL,
        "NetworkPolicy/statewise",
        "spec ingress 1 ports 0 port",
        "metric",
        "metric is no port of the pod",
    ),
    Mistake(
        SQLITE, "NetworkPolicy/statewise", "spec podSelector matchLabels", {"app": "x"}, "selects no pod"
    ),
    Mistake(SQLITE, "StatefulSet/statewise", "spec serviceName", "statewise", "is no headless service"),
    Mistake(SQLITE, "StatefulSet/statewise", "spec strategy", {"type": "RollingUpdate"}, "strategy"),
    Mistake(SQLITE, "StatefulSet/statewise", "spec volumeClaimTemplates", REMOVED, "no volume sessions"),
    Mistake(
        SQLITE,
        "StatefulSet/statewise",
        "spec volumeClaimTemplates 0 spec accessModes",
        ["ReadWriteMany"],
        "that one node alone has",
    ),
    Mistake(
        SQLITE,
        "StatefulSet/statewise",
        f"{SERVER} env STATEWISE_STORE value",
        "sqlite:/tmp/s.db",
        "pod's own",
    ),
    Mistake(
        SQLITE,
        "StatefulSet/statewise",
        f"{SERVER} env SQLITE_TMPDIR value",
        "/tmp",
        "'/tmp': expected a volume",
    ),
    Mistake(
        SQLITE, "StatefulSet/statewise", f"{SERVER} env SQLITE_TMPDIR name", "SQLITE_TMP", "no such setting"
    ),
    Mistake(REDIS, "Deployment/statewise", "apiVersion", "extensions/v1beta1", "Couldn't find schema"),
    Mistake(REDIS, "Deployment/statewise", "spec selector matchLabels", {"app": "x"}, "selects no pod"),
    Mistake(
        REDIS, "Deployment/statewise", "spec progressDeadlineSeconds", 600, "than the startup probe waits"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} args 0", "--configuration", "no such flag"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} args 1", "/etc/server.toml", "is not mounted there"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} command", ["statewise"], "the image's"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} image", "statewise:latest", "of the project's release"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} ports grpc containerPort", 50052, "another one in the image"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} ports health containerPort", 8081, "health_listen = "),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} env STATEWISE_LISTEN value", "127.0.0.1:50051", "^listen = "
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} env STATEWISE_INSECURE value", "false", "no TLS"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} env STATEWISE_INSECURE name", "STATEWISE_INSECUR", "no such"
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} env STATEWISE_REPOSITORY value",
        "/models",
        "nothing is mounted",
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} env STATEWISE_STORE_PASSWORD_FILE value",
        "/run/statewise/redis/pass",
        "expected the Secret that",
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} env STATEWISE_STORE value",
        "redis://:hunter2@redis:6379",
        "holds a password",
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} env -",
        {"name": "STATEWISE_STORE_PASSWORD", "value": "hunter2"},
        "holds a secret",
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} startupProbe grpc port", "grpc", "is not of type 'integer'"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} startupProbe grpc port", 8080, "is not the port grpc"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} startupProbe failureThreshold", 60, "a minute more"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} readinessProbe", REMOVED, "expected three probes"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} readinessProbe grpc service", "statewise", "as a whole"
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} livenessProbe httpGet path", "/readyz", "expected /healthz"
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} livenessProbe httpGet port", "grpc", "not the port health"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} livenessProbe timeoutSeconds", 1, "gives up before"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} livenessProbe grpc", {"port": 50051}, "expected one of exec"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} lifecycle", REMOVED, "preStop"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} resources limits memory", "512Mi", "beyond its memory limit"
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} volumeMounts repository readOnly",
        False,
        "cannot be written",
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} volumeMounts redis subPath", "password", "by subPath"),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} volumeMounts redis name", "reddis", "no volume reddis"),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{POD} volumes redis secret secretName",
        "redis",
        "expected the Secret",
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{POD} volumes redis secret defaultMode", 0o444, "everybody in the"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{POD} volumes settings configMap name", "x", "no ConfigMap x"),
    Mistake(REDIS, "Deployment/statewise", f"{POD} volumes repository hostPath", {"path": "/"}, "hostPath"),
    Mistake(
        REDIS, "Deployment/statewise", f"{POD} initContainers models image", "busybox", "of the project's"
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{POD} initContainers models securityContext", REMOVED, "privileges"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{POD} terminationGracePeriodSeconds", 30, "preStop and grace_s"),
    Mistake(REDIS, "Deployment/statewise", f"{POD} securityContext runAsNonRoot", REMOVED, "may run as root"),
    Mistake(REDIS, "Deployment/statewise", f"{POD} securityContext runAsUser", 1000, "not the image's user"),
    Mistake(
        REDIS, "Deployment/statewise", f"{POD} securityContext seccompProfile", REMOVED, "no seccomp profile"
    ),
    Mistake(
        REDIS, "Deployment/statewise", f"{POD} automountServiceAccountToken", True, "a token for the API"
    ),
    Mistake(REDIS, "Deployment/statewise", f"{POD} enableServiceLinks", REMOVED, "variables of all services"),
    Mistake(REDIS, "Deployment/statewise", f"{POD} hostNetwork", True, "hostNetwork"),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{POD} topologySpreadConstraints 0 labelSelector matchLabels",
        {"app": "x"},
        "topologySpreadConstraints: .* selects no pod",
    ),
    Mistake(
        REDIS,
        "Deployment/statewise",
        f"{SERVER} securityContext readOnlyRootFilesystem",
        REMOVED,
        "write its root",
    ),
    Mistake(REDIS, "Deployment/statewise", f"{SERVER} securityContext privileged", True, "overrides what"),
    Mistake(
        REDIS, "Deployment/statewise", f"{SERVER} securityContext capabilities", REMOVED, "has capabilities"
    ),
    Mistake(ALL, "Deployment/statewise", f"{SERVER} startupProbe httpGet path", "/ready", "expected /readyz"),
    Mistake(
        ALL, "Deployment/statewise", f"{SERVER} env STATEWISE_CALLERS name", "SQLITE_TMPDIR", "no callers"
    ),
    Mistake(
        ALL,
        "Deployment/statewise",
        f"{SERVER} readinessProbe",
        {"grpc": {"port": 50051}, "timeoutSeconds": 4},
        "cannot speak gRPC with TLS",
    ),
    Mistake(
        ALL, "Deployment/statewise", f"{SERVER} env STATEWISE_METRICS_INSECURE value", "no!", "settings: "
    ),
    Mistake(
        ALL,
        "Deployment/statewise",
        f"{SERVER} env STATEWISE_METRICS_INSECURE value",
        "false",
        "metrics_listen",
    ),
    Mistake(ALL, "Deployment/statewise", "spec replicas", 3, "sets its replicas, too"),
    Mistake(
        ALL, "ServiceMonitor/statewise", "spec endpoints 0 port", "grpc", "not the service's port metrics"
    ),
    Mistake(
        ALL, "ServiceMonitor/statewise", "spec endpoints 0 path", "/metric", "the server answers /metrics"
    ),
    Mistake(ALL, "ServiceMonitor/statewise", "spec endpoints 0 interval", "15 s", "'15 s' does not match"),
    Mistake(ALL, "ServiceMonitor/statewise", "spec endpoints 0 targetPort", "metrics", "targetPort"),
    Mistake(ALL, "ServiceMonitor/statewise", "spec selector matchLabels", {"app": "x"}, "selects 0 services"),
    Mistake(
        ALL,
        "ServiceMonitor/statewise",
        "spec selector matchLabels",
        {"app.kubernetes.io/name": "statewise"},
        "selects 2 services",
    ),
    Mistake(
        ALL,
        "HorizontalPodAutoscaler/statewise",
        "spec metrics 0 pods metric name",
        "statewise_sessions",
        "no rule of the adapter has it",
    ),
    Mistake(ALL, "HorizontalPodAutoscaler/statewise", "spec metrics 0", REMOVED, "the time that work waits"),
    Mistake(
        ALL,
        "HorizontalPodAutoscaler/statewise",
        "spec scaleTargetRef kind",
        "StatefulSet",
        "not the Deployment",
    ),
    Mistake(ALL, "HorizontalPodAutoscaler/statewise", "spec maxReplica", 12, "maxReplica"),
    Mistake(
        ALL,
        "HorizontalPodAutoscaler/statewise",
        "spec metrics 0 pods target",
        REMOVED,
        "'target' is a required",
    ),
]


def change(one: Object, path: str, value: Any) -> None:
    """Changes, adds or removes the value at a path."""
    *folders, last = path.split()
    part: Any = one
    for key in folders:
        part = part[_place(part, key)]
    if last == "-":
        part.append(value)
    elif value is REMOVED:
        del part[_place(part, last)]
    else:
        part[_place(part, last)] = value


def _place(part: Any, key: str) -> Any:
    if isinstance(part, dict):
        return key
    return int(key) if key.isdecimal() else [entry["name"] for entry in part].index(key)


@pytest.mark.parametrize(
    "mistake",
    MISTAKES,
    ids=[f"{one.object} {one.path.removeprefix(POD).strip()} {one.value}" for one in MISTAKES],
)
def test_a_mistake_is_found(rendered: Rendered, files: Path, rules: list[Object], mistake: Mistake) -> None:
    manifests = copy.deepcopy(rendered(mistake.rendering))
    (one,) = (one for one in manifests.objects if title(one) == mistake.object)
    change(one, mistake.path, mistake.value)
    complaints = complaints_of(manifests, files, rules, release=newest_release())
    assert any(re.search(mistake.words, complaint) for complaint in complaints), complaints


def test_there_is_a_mistake_for_each_object(rendered: Rendered) -> None:
    there = {title(one) for name in RENDERINGS for one in rendered(name).objects}
    assert there == {mistake.object for mistake in MISTAKES}


@pytest.mark.parametrize(
    ("key", "old", "new", "words"),
    [
        ("name", "queue_seconds_mean", "waiting_seconds", "no rule of the adapter has it"),
        (
            "metricsQuery",
            "statewise_queue_seconds_count",
            "statewise_queues_count",
            "the server has no such metric",
        ),
        (
            "seriesQuery",
            "statewise_queue_seconds_sum",
            "statewise_queue_s_sum",
            "the server has no such metric",
        ),
    ],
)
def test_a_mistake_in_the_rules_of_the_adapter_is_found(
    rendered: Rendered, files: Path, rules: list[Object], key: str, old: str, new: str, words: str
) -> None:
    rule = copy.deepcopy(rules[0])
    if key == "name":
        rule["name"]["as"] = rule["name"]["as"].replace(old, new)
    else:
        assert old in rule[key]
        rule[key] = rule[key].replace(old, new)
    complaints = complaints_of(rendered(ALL), files, [rule], release=newest_release())
    assert any(words in complaint for complaint in complaints)
