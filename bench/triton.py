"""Installs and runs NVIDIA Triton, from the nvidia-pytriton wheel, in a separate environment.

tritonclient needs an older protobuf and contains another package `inference`, so this process imports nothing
of it. The environment is created on first use, in the user's cache folder, and kept.
"""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import SERVER_CORE

_HERE = Path(__file__).parent
_PACKAGES = ("nvidia-pytriton==0.7.0", "tritonclient[grpc]==2.73.0", "onnxruntime==1.32.0")
_PATIENCE_S = 60.0
_CONFIG = """
backend: "python"
max_batch_size: 1024
input [{ name: "x" data_type: TYPE_FP32 dims: [64] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [64] }]
instance_group [{ kind: KIND_CPU count: 1 }]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 4096 }
  control_input [
    { name: "START" control [{ kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] }] },
    { name: "CORRID" control [{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }] }
  ]
}
"""


class NoTritonError(Exception):
    """Triton cannot be installed or started on this machine."""


def environment() -> Path:
    """Creates the virtual environment if needed; returns its folder.

    Raises:
        NoTritonError: The packages cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "statewise" / "triton"
    if not (folder / "installed").exists():
        print(f"installing Triton into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *_PACKAGES]
        # The checkout's constraints belong to another environment.
        clean = {name: value for name, value in os.environ.items() if "CONSTRAINT" not in name}
        if subprocess.run(pip, env=clean, check=False).returncode != 0:
            raise NoTritonError(f"pip cannot install {', '.join(_PACKAGES)}")
        (folder / "installed").touch()
    return folder


@contextmanager
def triton_server(folder: Path, onnx: Path, scratch: Path) -> Iterator[str]:
    """Serves one of our models as `lstm64`, on the servers' core; yields the address.

    Raises:
        NoTritonError: The server does not start.
    """
    version = scratch / "repository" / "lstm64" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(_CONFIG)
    shutil.copy(_HERE / "triton_model.py", version / "model.py")
    shutil.copy(onnx, version / "model.onnx")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / f"lib/python{python}/site-packages"
    home = packages / "pytriton/tritonserver"
    backends = scratch / "backends"
    shutil.copytree(home / "backends", backends)
    shutil.copy(home / f"python_backend_stubs/{python}/triton_python_backend_stub", backends / "python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(str(home / "bin/tritonserver"), f"--model-repository={scratch / 'repository'}"),
        *(f"--backend-directory={backends}", "--grpc-address=127.0.0.1", f"--grpc-port={port}"),
        *(
            "--allow-http=false",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
            "--log-info=false",
        ),
    ]
    environ = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
    }
    with (scratch / "triton.log").open("w+") as log:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(SERVER_CORE), *command], env=environ, stdout=log, stderr=log
        )
        try:
            _wait_for(process, port, log.name)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def triton_steps_per_s(folder: Path, address: str, *, sessions: int, seconds: float) -> float:
    """Measures the program written with tritonclient, on this process's core."""
    command = [folder / "bin/python", _HERE / "triton_client.py", address, str(sessions), str(seconds)]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        try:
            # The port opens only after all models are ready.
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise NoTritonError(f"tritonserver does not start: {Path(log).read_text()[-2000:]}")
