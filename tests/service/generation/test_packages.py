"""Loads packages whose auxiliary graphs are missing, damaged, or differ from the metadata."""

import asyncio
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import pytest

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.wire import METADATA_KEY


def _respell(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    model = onnx.load(package / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            spec = json.loads(entry.value)
            change(spec)
            entry.value = json.dumps(spec)
    onnx.save(model, package / "model.onnx")


def _respelling(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda package: _respell(package, change)


@pytest.mark.parametrize(
    ("model", "spoil", "words"),
    [
        ("letters", lambda package: (package / "generate.onnx").unlink(), "generate.onnx: the metadata"),
        ("speech", lambda package: (package / "encode.onnx").unlink(), "encode.onnx: the metadata promises"),
        ("speech", lambda p: (p / "encode.onnx").write_bytes(b"no graph"), "encode.onnx: onnxruntime"),
        ("wave", lambda p: shutil.copy(p / "model.onnx", p / "generate.onnx"), "generate.onnx: "),
        ("speech", _respelling(lambda spec: spec.update(encode=None)), "the metadata of its encoder"),
        ("letters", _respelling(lambda s: s["generate"].update(input="z")), "a per-step input 'z'"),
        (
            "letters",
            _respelling(lambda s: s["vocabulary"].update(tokens=["a", "b"], end=0, conditions={})),
            "expected emitted values below 2, the size of the vocabulary; got 7",
        ),
        ("letters_outside", _respelling(lambda s: s["generate"].update(sampled=False)), "of shape []"),
        ("drift", _respelling(lambda s: s["generate"]["emitted"].update(shape=[2])), "of shape [2]"),
    ],
)
def test_a_package_that_cannot_generate_as_it_says_is_reported(
    generative: Path, tmp_path: Path, model: str, spoil: Callable[[Path], None], words: str
) -> None:
    shutil.copytree(generative / model, tmp_path / model)
    spoil(tmp_path / model / "1")
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(Settings(repository=tmp_path, load_in_child=False), executor=executor)
        asyncio.run(dataplane.models.load_all())
    (status,) = dataplane.models.statuses()
    assert status.loaded is None
    assert words in status.trouble


def test_only_models_fed_back_from_outside_keep_their_last_output(generative: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(Settings(repository=generative, load_in_child=False), executor=executor)
        asyncio.run(dataplane.models.load_all())
    kept = {
        loaded.package.name: loaded.arena.bytes_per_session // 8
        - sum(pair.shape[0] for pair in loaded.package.spec.state)
        for loaded in dataplane.models
    }
    assert kept == {
        name: {"letters_outside": 7, "chatter_outside": 7, "speech_outside": 7, "wave_outside": 3, "drift": 3}
        .get(name, 0)
        for name in kept
    }  # fmt: skip
    assert len(kept) == 10
