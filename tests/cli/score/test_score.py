"""Checks the files that `statewise score` writes: every row, in order, in every kind of file."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.command import statewise
from tests.cli.score.results import KINDS, Expected, Result, read

from statewise.client import Client
from statewise.service.testing import server_in_thread


@pytest.mark.parametrize("model", ["each", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_the_output_in_order(
    target: str, few: Path, tmp_path: Path, expected: Expected, model: str, kind: str
) -> None:
    output = tmp_path / f"scores{kind}"

    done = statewise(
        "score", "--target", target, "--model", model, "--input", few, "--output", output, "--json"
    )

    assert done.code == 0, done.err
    assert {key: done.json[key] for key in ("model", "version", "rows", "failed", "resumed_at")} == {
        "model": model, "version": 1, "rows": 12, "failed": 1, "resumed_at": 0,
    }  # fmt: skip
    assert done.err == ""
    found = read(output)
    assert [name for name, _, _ in found] == [f"r{index}" for index in range(12)]
    assert [index for index, (_, error, _) in enumerate(found) if error] == [7]
    assert str(found[7][1]).startswith("InvalidInput: ")
    assert found[7][2] is None
    for (_, _, outputs), wanted in zip(found, expected[model], strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(np.array(outputs, np.float32), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.jsonl", f"scores{kind}"]


def test_without_json_the_words_go_to_stderr(target: str, few: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    done = statewise("score", "--target", target, "--model", "last", "--input", few, "--output", output)
    assert (done.code, done.out) == (0, "")
    assert "12 rows, 1 of them failed" in done.err
    assert "\r" not in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_rows_give_files_without_rows(target: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "nothing.jsonl").write_text("")
    output = tmp_path / f"scores{kind}"
    done = statewise(
        "score",
        "--target",
        target,
        "--model",
        "each",
        "--input",
        tmp_path / "nothing.jsonl",
        "--output",
        output,
    )
    assert done.code == 0, done.err
    assert read(output) == []


@pytest.fixture(scope="module")
def server(untrained: Path) -> Iterator[str]:
    """A server with an untrained `g2p`."""
    with server_in_thread(untrained) as address:
        yield address


class TestEncoderDecoder:
    """Inputs and outputs of different lengths, as texts and as tokens."""

    WORDS = ("hello", "memory", "state7", "wise")  # the vocabulary has no 7

    def score(self, server: str, source: Path, output: Path) -> tuple[int, list[Result]]:
        run = ("score", "--target", server, "--model", "g2p", "--input", source, "--output", output, "--json")
        done = statewise(*run)
        assert done.code == 0, done.err
        return done.json["failed"], read(output)

    @pytest.mark.parametrize("kind", KINDS)
    def test_texts(self, server: str, tmp_path: Path, kind: str) -> None:
        lines = [{"id": word, "inputs": word} for word in self.WORDS]
        (tmp_path / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(server, tmp_path / "words.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 1
        assert [name for name, _, _ in found] == list(self.WORDS)
        assert "got '7'" in str(found[2][1])
        with Client(server) as client:
            expected = client.predict("g2p", ["hello", "memory", "wise"])
        assert [sounds for _, error, sounds in found if not error] == expected

    @pytest.mark.parametrize("kind", KINDS)
    def test_tokens(self, server: str, tmp_path: Path, kind: str) -> None:
        rows = [np.array([ord(letter) - ord("a") + 1 for letter in word]) for word in ("hello", "wise")]
        lines = [{"inputs": row.tolist()} for row in rows]
        (tmp_path / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        failed, found = self.score(server, tmp_path / "tokens.jsonl", tmp_path / f"sounds{kind}")
        assert failed == 0
        with Client(server) as client:
            for (_, _, sounds), expected in zip(found, client.predict("g2p", rows), strict=True):
                np.testing.assert_array_equal(sounds, expected)
