"""Checks train, export, verify and inspect, from a recipe to a verified package, and their error messages."""

import json
import shutil
import signal
from pathlib import Path

import onnx
import pytest
from tests.cli.command import started, statewise, wait_until


def test_train_reports_its_metrics_as_one_json_object(tmp_path: Path) -> None:
    done = statewise(
        "train", "vowels", "--out", tmp_path / "run", "--set", "train.epochs=1", "--seed", "7", "--json"
    )

    assert done.code == 0
    assert done.json["recipe"] == "vowels"
    assert done.json["seconds"] > 0
    assert 0 < done.json["accuracy"] <= 1
    assert json.loads((tmp_path / "run" / "network.json").read_text())["seed"] == 7


def test_train_prints_its_metrics_on_one_line(tmp_path: Path) -> None:
    done = statewise("train", "gait", "--out", tmp_path, "--set", "train.epochs=1")

    assert done.out.startswith("gait: rmse ")
    assert done.out.count("\n") == 1
    assert done.err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing.toml"], "nothing.toml: No such file or directory"),
        (["vowels", "--set", "train.epoch=3"], "vowels.toml: train.epoch = 3: unknown key"),
        (
            ["vowels", "--set", "train.epochs=many"],
            "vowels.toml: train.epochs = 'many': expected a whole number",
        ),
    ],
    ids=" ".join,
)
def test_a_bad_recipe_is_one_line_naming_file_key_and_value(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    assert statewise("train", *arguments, "--out", tmp_path).complaint.startswith(complaint)


def test_an_override_without_a_value_is_wrong_usage(tmp_path: Path) -> None:
    assert statewise("train", "vowels", "--out", tmp_path, "--set", "train.epochs").code == 2


def test_interrupted_training_prints_how_to_continue(tmp_path: Path) -> None:
    run = ("train", "vowels", "--out", tmp_path, "--set", "train.epochs=1000000")
    with started(*run) as process:
        wait_until(process, (tmp_path / "checkpoint.npz").exists)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err == "the same command with --resume continues from the last checkpoint\n"


def test_export_prints_the_path_and_counts_versions(trained: dict[str, Path], tmp_path: Path) -> None:
    first = statewise("export", trained["gait"], "--repository", tmp_path)
    second = statewise(
        "export", trained["gait"], "--repository", tmp_path, "--name", "walk", "--version", "5", "--json"
    )

    assert first.out == f"{tmp_path}/gait/1\n"
    assert second.json == {"package": f"{tmp_path}/walk/5", "name": "walk", "version": 5}


def test_export_prints_what_smaller_weights_cost(trained: dict[str, Path], tmp_path: Path) -> None:
    half = statewise("export", trained["gait"], "--repository", tmp_path, "--weights", "float16")
    eighth = statewise("export", trained["gait"], "--repository", tmp_path, "--weights", "int8", "--json")

    assert half.out == f"{tmp_path}/gait/1\n"
    assert half.err.startswith("float16 weights: outputs differ by up to 0.")
    assert "of float32" in half.err
    assert eighth.json["version"] == 2
    assert "servers will run each row alone" in eighth.err


def test_an_existing_version_is_refused(trained: dict[str, Path], repository: Path) -> None:
    done = statewise("export", trained["gait"], "--repository", repository, "--version", "1")

    assert done.complaint.startswith(f"{repository}/gait/1: this version exists")


def test_a_model_is_named_after_the_folder_of_its_run(trained: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(trained["gait"], tmp_path / "ankle left")
    done = statewise("export", run, "--repository", tmp_path / "models")
    assert done.complaint.startswith("name: expected 1 to 128 characters of A-Z")
    run = run.rename(tmp_path / "ankle")
    done = statewise("export", run, "--repository", tmp_path / "models")
    assert (done.out, done.err) == (f"{tmp_path}/models/ankle/1\n", "")


def test_exporting_the_same_twice_is_told(trained: dict[str, Path], tmp_path: Path) -> None:
    export = ("export", trained["gait"], "--repository", tmp_path)
    assert statewise(*export).err == ""
    assert statewise(*export, "--weights", "float16").err.count("\n") == 1
    again = statewise(*export)
    assert again.out == f"{tmp_path}/gait/3\n"
    assert again.err == f"{tmp_path}/gait/3 has the same files as {tmp_path}/gait/1\n"


def test_a_run_is_resumed_or_overwritten_as_asked(tmp_path: Path) -> None:
    run = ("train", "vowels", "--out", tmp_path / "run", "--set", "network.hidden_size=8", "--set")
    assert statewise(*run, "train.epochs=1").code == 0
    refused = statewise(*run, "train.epochs=2", "--seed", "5")
    assert refused.complaint == (
        f"{tmp_path}/run holds a run that ended after epoch 1 of 1; "
        "--resume with --set train.epochs=N, above 1, continues it, --overwrite deletes it and starts again"
    )
    assert statewise(*run, "train.epochs=2", "--resume").code == 0
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 2
    assert statewise(*run, "train.epochs=1", "--overwrite").code == 0
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 1
    assert statewise(*run, "train.epochs=1", "--overwrite", "--resume").code == 2


def test_exporting_another_folder_is_one_line(tmp_path: Path) -> None:
    assert "expected a checkpoint folder" in statewise("export", tmp_path, "--repository", tmp_path).complaint


def test_verify_shows_every_check_and_the_class(repository: Path) -> None:
    done = statewise("verify", repository / "vowels" / "1")

    assert done.code == 0
    assert done.out.count("passed") == 7
    assert done.out.endswith("class: exact\n")


def test_verify_reports_json(repository: Path, trained: dict[str, Path]) -> None:
    done = statewise("verify", repository / "gait" / "1", "--checkpoint", trained["gait"], "--json")

    checks = {check["name"]: check for check in done.json["checks"]}
    assert done.json["passed"] is True
    assert done.json["exactness"] == "exact"
    assert checks["NumPy = onnxruntime"]["measured"] < checks["NumPy = onnxruntime"]["bound"] == 1e-5
    assert checks["step by step = whole"]["measured"] == 0


def test_verify_exits_1_where_a_check_fails(repository: Path, tmp_path: Path) -> None:
    model = onnx.load(repository / "gait" / "1" / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "LSTM").input[5] = ""
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    done = statewise("verify", tmp_path / "model.onnx", "--json")

    assert done.code == 1
    assert done.json["passed"] is False


def test_verify_names_a_checkpoint_of_another_network(repository: Path, trained: dict[str, Path]) -> None:
    done = statewise("verify", repository / "vowels" / "1", "--checkpoint", trained["gait"], "--json")
    assert done.code == 1, done.err
    (failed,) = (check for check in done.json["checks"] if not check["passed"])
    assert failed["detail"] == "the checkpoint is of another network than the package"


def test_verifying_no_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")

    assert "expected an ONNX file" in statewise("verify", tmp_path / "noise.onnx").complaint


def test_inspect_shows_the_metadata(repository: Path) -> None:
    shown = statewise("inspect", repository / "vowels" / "1")
    told = statewise("inspect", repository / "vowels" / "1", "--json")

    assert "many_to_one" in shown.out
    assert "speaker 9" in shown.out
    assert told.json["call_shapes"] == ["many_to_one"]
    assert told.json["notes"]["recipe"] == "vowels"
