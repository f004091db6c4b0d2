"""Runs `statewise demo` as a whole, on real data; the slowest test of the command."""

from pathlib import Path

import pytest
from tests.cli.command import statewise


@pytest.mark.long
def test_the_demo_holds_and_reports_what_it_found(tmp_path: Path) -> None:
    done = statewise("demo", "--folder", tmp_path / "demo", "--json", timeout_s=500)

    assert done.code == 0, done.err
    assert done.json["accuracy"] >= 0.96
    assert done.json["rmse"] < done.json["persistence_rmse"]
    assert done.json["streamed_equals_whole"] is True
    assert "equal those of one whole run, bit for bit" in done.err
    assert (tmp_path / "demo" / "repository" / "vowels" / "1" / "model.onnx").is_file()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert str(tmp_path / "file") in statewise("demo", "--folder", tmp_path / "file").complaint
