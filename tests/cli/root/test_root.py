"""Checks the command without a subcommand: quick start, version, suggestions, missing extras."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.cli.command import statewise

from statewise.client import __version__ as statewise_client_version


def test_help_lists_every_subcommand() -> None:
    shown = statewise("--help")

    assert shown.code == 0
    for name in (
        "train",
        "export",
        "verify",
        "inspect",
        "serve",
        "models",
        "sessions",
        "top",
        "stream",
        "plot",
        "demo",
    ):
        assert f" {name} " in shown.out


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-thing"]], ids=" ".join)
def test_nothing_heavy_is_imported_before_a_subcommand_runs(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from statewise.cli import main\n"
        f"sys.argv = ['statewise', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'grpc', 'google'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_version() -> None:
    assert statewise("--version").out == version("statewise") + "\n"
    assert statewise_client_version == version("statewise")


def test_the_command_runs_as_a_module_from_any_folder(tmp_path: Path) -> None:
    for module in ("statewise", "statewise.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], capture_output=True, text=True, cwd=tmp_path
        )
        assert (done.stdout, done.stderr) == (version("statewise") + "\n", "")


def test_wrong_usage_exits_2_and_suggests() -> None:
    typo = statewise("trian")

    assert typo.code == 2
    assert typo.out == ""
    assert "Did you mean 'train'?" in typo.err


@pytest.mark.parametrize(
    ("missing", "arguments", "complaint"),
    [
        ("typer", ["--help"], "statewise: the command needs typer and rich; pip install 'statewise[cli]'"),
        ("onnx", ["verify", "p"], "statewise: verify needs onnx; pip install 'statewise[export]'"),
        ("matplotlib", ["plot", "curves"], "statewise: plot needs matplotlib; pip install 'statewise[plot]'"),
        ("onnxruntime", ["serve"], "statewise: serve needs onnxruntime; pip install 'statewise[serve]'"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(
    missing: str, arguments: list[str], complaint: str
) -> None:
    script = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"  # importing it raises ModuleNotFoundError
        "from statewise.cli import main\n"
        f"sys.argv = ['statewise', *{arguments!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", complaint + "\n")


@pytest.mark.parametrize(("set_by_user", "expected"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_telemetry_of_onnxruntime_is_off_unless_the_user_sets_it(
    set_by_user: dict[str, str], expected: str
) -> None:
    script = (
        "import os, sys\n"
        "from statewise.cli import main\n"
        "sys.argv = ['statewise', '--version']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**kept, **set_by_user}
    )

    assert done.stdout.splitlines()[-1] == expected
