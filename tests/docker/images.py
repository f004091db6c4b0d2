"""Makes stand-ins for the images that Dockerfile and compose file name, from Debian packages.

The tests must also run where no registry can be reached. The stand-ins have the names of the images, so the
files under test stay as users have them. Two root file systems are made and kept in the user's cache folder:
one is the base of our own image, the other holds the programs beside it, and Compose itself. A file in the
cache is complete.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.docker.engine import Engine

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "statewise" / "docker"
# This machine's authorities, which its package index may need.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/javascript/*")
_COMPOSE = "./usr/libexec/docker/cli-plugins/docker-compose"


@dataclass(frozen=True)
class RootFileSystem:
    """A Debian release with some packages, as a tar file."""

    release: str
    packages: Sequence[str]

    def make(self) -> Path:
        """Makes the tar file unless the cache has it; gives its path."""
        command = [
            "mmdebstrap", "--quiet", "--mode=root", "--format=tar", "--variant=minbase",
            f"--include={','.join(self.packages)}",
            *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
            f"--customize-hook=copy-in {AUTHORITIES} {AUTHORITIES.parent}",
            self.release,
        ]  # fmt: skip
        digest = hashlib.sha256(repr(command).encode() + AUTHORITIES.read_bytes()).hexdigest()[:12]
        finished = CACHE / f"{self.release}-{digest}.tar"
        if not finished.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = finished.with_suffix(f".{os.getpid()}.part")
            try:
                with part.open("wb") as file:
                    subprocess.run([*command, "-"], check=True, stdout=file)
                part.rename(finished)
            finally:
                part.unlink(missing_ok=True)
        return finished


BASE = RootFileSystem("bookworm", ("ca-certificates", "python3", "python3-pip", "python3-venv"))
# Grafana is not among Debian's packages: grafana.py, which needs Python, takes its place.
BESIDE = RootFileSystem(
    "trixie", ("ca-certificates", "docker-compose", "haproxy", "prometheus", "python3", "wget")
)


# What the stand-ins need to behave as the images that they stand for: users, folders, commands.
_DOCKERFILES = {
    "haproxy": """
        USER haproxy
        CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
    """,
    "prometheus": """
        RUN mkdir /prometheus && chown nobody /prometheus
        USER nobody
        ENTRYPOINT ["prometheus"]
    """,
    "grafana": """
        RUN mkdir /var/lib/grafana && chown 472 /var/lib/grafana
        USER 472
        CMD ["python3", "/grafana.py"]
    """,
}


def stand_in(engine: Engine) -> None:
    """Gives an engine Compose, the base of the Dockerfile, and the images that the compose file names."""
    with ThreadPoolExecutor() as threads:
        base, beside = threads.map(RootFileSystem.make, (BASE, BESIDE))
    engine.docker("import", f"--change=ENV PIP_CERT={AUTHORITIES}", str(base), _base_name())
    engine.docker("import", str(beside), "beside")
    for what, name in _names_beside().items():
        engine.docker("build", "--tag", name, "-", stdin=f"FROM beside\n{dedent(_DOCKERFILES[what])}")
    _unpack_compose(beside, engine.folder / "config" / "cli-plugins" / "docker-compose")


def _base_name() -> str:
    (name,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    return str(name)


def _names_beside() -> dict[str, str]:
    """The images that the compose file names and does not build, by what they hold."""
    names = re.findall(r"^ +image: (\S+)$", (ROOT / "docker/compose.yaml").read_text(), re.MULTILINE)
    return {re.split("[/:]", name)[-2]: name for name in names if not name.startswith("statewise")}


def _unpack_compose(tar_file: Path, plugin: Path) -> None:
    plugin.parent.mkdir()
    with tarfile.open(tar_file) as tar, plugin.open("wb") as file:
        source = tar.extractfile(_COMPOSE)
        assert source is not None
        shutil.copyfileobj(source, file)
    plugin.chmod(0o755)
