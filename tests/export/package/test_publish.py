"""Publishes versions: they appear whole, count up, and never change."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.export.checkpoints import make_checkpoint

from statewise.export import ExportError, VersionExists, export_checkpoint
from statewise.models import save_checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_versions_count_up_under_the_recipes_name(tmp_path: Path) -> None:
    first = export_checkpoint(make_checkpoint(), tmp_path / "repository")
    second = export_checkpoint(make_checkpoint(), tmp_path / "repository")

    assert first == tmp_path / "repository" / "tiny" / "1"
    assert second == tmp_path / "repository" / "tiny" / "2"
    assert sorted(contents(tmp_path / "repository")) == ["tiny/1/model.onnx", "tiny/2/model.onnx"]


def test_counting_goes_on_from_the_highest_and_ignores_other_entries(tmp_path: Path) -> None:
    export_checkpoint(make_checkpoint(), tmp_path, name="m", version=41)
    (tmp_path / "m" / "model.toml").write_text("default_version = 41\n")
    (tmp_path / "m" / ".publishing-left-behind").mkdir()

    assert export_checkpoint(make_checkpoint(), tmp_path, name="m") == tmp_path / "m" / "42"


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    first = export_checkpoint(make_checkpoint(), tmp_path)
    second = export_checkpoint(make_checkpoint(), tmp_path)

    assert contents(first) == contents(second)


def test_an_existing_version_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(seed=1), tmp_path, version=3)
    before = contents(tmp_path)

    with pytest.raises(VersionExists, match=r"tiny/3: this version exists") as caught:
        export_checkpoint(make_checkpoint(seed=2), tmp_path, version=3)

    assert caught.value.path == package
    assert contents(tmp_path) == before


def test_exporters_at_the_same_time_get_versions_of_their_own(tmp_path: Path) -> None:
    checkpoints = [make_checkpoint(seed=seed) for seed in range(12)]

    with ThreadPoolExecutor(6) as pool:
        packages = list(pool.map(lambda checkpoint: export_checkpoint(checkpoint, tmp_path), checkpoints))

    assert sorted(int(package.name) for package in packages) == list(range(1, 13))
    assert len({(package / "model.onnx").read_bytes() for package in packages}) == 12
    assert all(not entry.name.startswith(".") for entry in (tmp_path / "tiny").iterdir())


def test_a_folder_that_training_wrote_is_read(tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    folder = save_checkpoint(checkpoint, tmp_path / "run")

    from_folder = export_checkpoint(folder, tmp_path / "repository")
    from_value = export_checkpoint(checkpoint, tmp_path / "repository")

    assert contents(from_folder) == contents(from_value)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "with space", "x" * 129])
def test_names_that_no_repository_holds_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"^name: expected 1 to 128 characters .* got "):
        export_checkpoint(make_checkpoint(), tmp_path / "repository", name=name)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("version", [0, -1, 2**32])
def test_versions_are_positive_and_fit_the_contract(tmp_path: Path, version: int) -> None:
    with pytest.raises(ExportError, match=rf"^version: expected 1 to 4294967295; got {version}$"):
        export_checkpoint(make_checkpoint(), tmp_path, version=version)
