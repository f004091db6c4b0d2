"""Checks the server as a process, and `statewise stream` and `statewise models` against it."""

import json
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cli.command import listening, pipe, started, statewise

from statewise.models import load_checkpoint, load_dataset
from statewise.models.datasets import LabelledSequences, Series

Array = NDArray[Any]


@pytest.fixture(scope="module")
def target(repository: Path) -> Iterator[str]:
    with started("serve", "--repository", repository, "--listen", "127.0.0.1:0") as server:
        yield listening(server)


@pytest.fixture(scope="module")
def walk() -> Array:
    """The first twelve samples of the gait recording, [12, 9]."""
    data = load_dataset("gait")
    assert isinstance(data, Series)
    return data.values[:12]


def lines(steps: Iterable[Array]) -> str:
    return "".join(json.dumps(step.tolist()) + "\n" for step in steps)


def arrays(text: str) -> Array:
    return np.array([json.loads(line) for line in text.splitlines()], np.float32)


def test_serve_prints_a_real_port_and_exits_with_0_on_sigterm(repository: Path) -> None:
    with started("serve", "--repository", repository, "--listen", "127.0.0.1:0") as server:
        host, port = listening(server).rsplit(":", 1)
        assert host == "127.0.0.1"
        assert int(port) > 0

        server.send_signal(signal.SIGTERM)

        out, _ = server.communicate(timeout=60)
    assert server.returncode == 0
    assert out == ""


def test_flags_override_variables_and_variables_override_the_file(repository: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f"repository = {str(repository)!r}\nlisten = 'from the file'\n")

    from_file = statewise("serve", "--config", config)
    from_environment = statewise(
        "serve", "--config", config, env={"STATEWISE_LISTEN": "from the environment"}
    )
    from_flag = statewise(
        "serve", "--config", config, "--listen", "a flag", env={"STATEWISE_LISTEN": "from the environment"}
    )

    assert from_file.complaint.startswith("listen = 'from the file': ")
    assert from_environment.complaint.startswith("listen = 'from the environment': ")
    assert from_flag.complaint.startswith("listen = 'a flag': ")


def test_serve_without_a_repository_is_one_line(tmp_path: Path) -> None:
    assert "repository" in statewise("serve").complaint
    assert "nowhere" in statewise("serve", "--repository", tmp_path / "nowhere").complaint


def test_stream_answers_each_line_before_the_next_is_written(
    target: str, trained: dict[str, Path], walk: Array
) -> None:
    answers = []
    with started("stream", "--target", target, "--model", "gait") as process:
        for step in walk:
            pipe(process.stdin).write(json.dumps(step.tolist()) + "\n")
            pipe(process.stdin).flush()
            answers.append(json.loads(pipe(process.stdout).readline()))
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (0, "", "")
    expected, _ = load_checkpoint(trained["gait"]).predict(walk[:, None])
    assert np.abs(np.array(answers, np.float32) - expected[:, 0]).max() < 1e-5 * np.abs(expected).max()


def test_a_named_session_continues_at_its_position(target: str, walk: Array) -> None:
    whole = statewise("stream", "--target", target, "--model", "gait", stdin=lines(walk))
    halves = [
        statewise("stream", "--target", target, "--model", "gait", "--session", "walk", stdin=lines(half))
        for half in (walk[:5], walk[5:])
    ]

    assert halves[0].out + halves[1].out == whole.out
    assert whole.out.count("\n") == len(walk)


def test_a_durability_that_the_server_does_not_offer_is_one_line(target: str, walk: Array) -> None:
    command = ("stream", "--target", target, "--model", "gait", "--durability")
    assert statewise(*command, "interval", stdin=lines(walk[:1])).out.count("\n") == 1
    assert "needs a session store" in statewise(*command, "reply", stdin=lines(walk[:1])).complaint


def test_a_many_to_one_model_answers_every_step(target: str, trained: dict[str, Path]) -> None:
    data = load_dataset("vowels")
    assert isinstance(data, LabelledSequences)
    utterance = data.test[0]

    done = statewise("stream", "--target", target, "--model", "vowels", stdin=lines(utterance))

    expected, _ = load_checkpoint(trained["vowels"]).predict(utterance[:, None])
    assert np.abs(arrays(done.out)[-1] - expected[0]).max() < 1e-5


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[1, 2", "line 3: expected a JSON array; got '[1, 2' "),
        ("5", "line 3: expected a JSON array; got '5'"),
        ("[1, 2, 3]", "line 3: "),
        ('["a"]', "line 3: "),
        ("[]", "line 3: "),
        ("[1, 2, 3, 4, 5, 6, 7, 8, NaN]", "line 3: "),
    ],
)
def test_a_line_that_cannot_be_stepped_ends_the_command(
    target: str, walk: Array, line: str, complaint: str
) -> None:
    text = lines(walk[:2]) + line + "\n" + lines(walk[2:])

    done = statewise("stream", "--target", target, "--model", "gait", stdin=text)

    assert done.code == 1
    assert done.out.count("\n") == 2
    assert done.err.startswith("statewise: " + complaint)
    assert done.err.count("\n") == 1


def test_an_unknown_model_is_one_line(target: str, walk: Array) -> None:
    done = statewise("stream", "--target", target, "--model", "nothing", stdin=lines(walk))

    assert "nothing" in done.complaint


def test_models_lists_the_served_versions(target: str) -> None:
    shown = statewise("models", "--target", target)
    told = statewise("models", "--json", env={"STATEWISE_TARGET": target})

    assert shown.code == 0
    assert "vowels" in shown.out
    by_name = {model["name"]: model for model in told.json["models"]}
    assert sorted(by_name) == ["gait", "vowels"]
    assert by_name["gait"]["exactness"] == "exact"
    assert by_name["vowels"]["labels"][8] == "speaker 9"


@pytest.mark.parametrize("command", [["models"], ["stream", "--model", "gait"]], ids=lambda words: words[0])
def test_no_server_is_one_line(command: list[str]) -> None:
    assert "127.0.0.1:1" in statewise(*command, "--target", "127.0.0.1:1", stdin="[1]\n").complaint


def test_the_reason_of_a_failed_version_is_one_line_below_the_table(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "gait").symlink_to(repository / "gait")
    damaged = tmp_path / "damaged" / "1"
    damaged.mkdir(parents=True)
    (damaged / "model.onnx").write_bytes(b"no graph")

    with started("serve", "--repository", tmp_path, "--listen", "127.0.0.1:0") as server:
        done = statewise("models", "--target", listening(server))

    assert done.code == 0, done.err
    *_, last = done.out.splitlines()
    assert last.startswith("damaged/1 failed: ")
