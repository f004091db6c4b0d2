"""Renders the manifests, once for all tests, and makes the files that Secrets bring into a pod."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from .manifests import Manifests, Object, read_rules, render_own

TOKEN = "a token of this test"
OWN = """
resources: [../{overlay}]
components: {components}
"""
EVERYTHING = ["../../components/tls", "../../components/monitoring", "../../components/autoscaling"]
RENDERINGS = {
    "sqlite": OWN.format(overlay="sqlite", components=[]),
    "redis": OWN.format(overlay="redis", components=[]),
    "sqlite with tls and metrics": OWN.format(overlay="sqlite", components=EVERYTHING[:2]),
    "sqlite with models of an image": OWN.format(
        overlay="sqlite", components=["../../components/models-image"]
    ),
    "redis with models on a volume": OWN.format(
        overlay="redis", components=["../../components/models-volume"]
    ),
    "redis with everything": OWN.format(overlay="redis", components=EVERYTHING),
}


@pytest.fixture(scope="session")
def rules() -> list[Object]:
    """Rules of prometheus-adapter."""
    return read_rules()


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Manifests]:
    """Renders by the name of a rendering."""
    done: dict[str, Manifests] = {}

    def of(name: str) -> Manifests:
        if name not in done:
            done[name] = render_own(RENDERINGS[name], tmp_path_factory.mktemp("kubernetes"))
        return done[name]

    return of


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder that stands for the root of a server's container: what Secrets bring is there."""
    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    caller = f'[[caller]]\nowner = "ann"\nscopes = ["predict"]\ntoken_sha256 = "{digest}"\n'
    contents = {
        "/run/statewise/snapshot-key/key": b"0123456789abcdef\n",
        "/run/statewise/redis/password": b"a password\n",
        "/run/statewise/tls/tls.crt": certificate.cert_chain_pems[0].bytes(),
        "/run/statewise/tls/tls.key": certificate.private_key_pem.bytes(),
        "/run/statewise/callers/callers.toml": caller.encode(),
    }
    for path, content in contents.items():
        file = tmp_path / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path
