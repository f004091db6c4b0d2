"""Checks which kernels the command selects for OpenBLAS, and when it selects none."""

from pathlib import Path

import pytest

from statewise.cli._blas import prefer_wide_kernels

WIDE = "fpu avx2 avx512f avx512bw avx512cd avx512dq avx512vl"


def write_description(folder: Path, vendor: str, flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n" * 2)
    return path


@pytest.mark.parametrize(
    ("vendor", "flags", "before", "after"),
    [
        ("AuthenticAMD", WIDE, {}, {"OPENBLAS_CORETYPE": "SkylakeX"}),
        ("AuthenticAMD", "fpu avx2 avx512f", {}, {}),
        ("GenuineIntel", WIDE, {}, {}),
        ("AuthenticAMD", WIDE, {"OPENBLAS_CORETYPE": "Zen"}, {"OPENBLAS_CORETYPE": "Zen"}),
    ],
    ids=["a wide AMD", "a narrow AMD", "known by name", "set by the user"],
)
def test_kernels(
    tmp_path: Path, vendor: str, flags: str, before: dict[str, str], after: dict[str, str]
) -> None:
    environment = dict(before)
    prefer_wide_kernels(environment, write_description(tmp_path, vendor, flags))
    assert environment == after


def test_without_a_description_nothing_is_set(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    prefer_wide_kernels(environment, tmp_path / "nowhere")
    assert environment == {}
