"""pyproject.toml and constraints.txt say the same, and the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
DECLARED = [
    Requirement(line)
    for lines in (
        PYPROJECT["project"]["dependencies"],
        PYPROJECT["build-system"]["requires"],
        *EXTRAS.values(),
    )
    for line in lines
]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_are_exact_and_hold_no_address() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line == "" or line.startswith("# ") or line == "#" or re.fullmatch(r"[\w.-]+==[\w.]+", line), (
            line
        )
    assert "://" not in (ROOT / "constraints.txt").read_text()
    assert list(pins()) == sorted(pins(), key=str.lower)


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_what_is_declared_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    pinned = {canonicalize_name(name): pin for name, pin in pins().items()}
    if requirement.name == "statewise":
        assert requirement.extras <= set(EXTRAS)
    else:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_everything_is_all_the_other_extras() -> None:
    (everything,) = (Requirement(line) for line in EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "dev", "manifests"}


def test_the_base_install_is_the_client_alone() -> None:
    names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
    assert names == {"grpcio", "grpcio-status", "protobuf", "googleapis-common-protos", "numpy"}
