"""Runs the engine on batches that it must refuse, and on rows that onnxruntime fails on."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.models.lookup import write_lookup

from statewise.service.engine import Engine
from statewise.service.packages import read_package
from statewise.service.testing import running_server
from statewise.wire import from_tensor


def test_an_empty_batch_and_an_empty_row_never_reach_onnxruntime(repository: Path) -> None:
    package = read_package("steps", 1, repository / "steps" / "1")
    engine = Engine(package.graph, package.spec)
    for rows, lengths in ((0, []), (2, [1, 0])):
        with pytest.raises(ValueError, match="at least one"):
            engine.run(
                [np.zeros((1, rows, 3), np.float32)],
                np.array(lengths, np.int32),
                [np.zeros((rows, 16), np.float32)],
            )


async def test_a_row_whose_run_fails_fails_alone(tmp_path: Path) -> None:
    write_lookup(tmp_path)
    async with running_server(tmp_path) as address, connect(address) as caller:
        handles = await caller.open("lookup", "a", "b", "c")
        for steps in (None, [1, 1, 1]):  # as a single step, and as a job
            position = 0 if steps is None else 1
            frame = caller.frame([(handle, position) for handle in handles], np.array([1, 9, 3]), steps=steps)
            if position:
                frame.positions = np.array([1, 0, 1], np.uint64).tobytes()
            reply = await caller.ask(step=frame)
            (error,) = reply.errors
            assert (error.row, error.reason, error.code) == (1, "INTERNAL", 13)
            assert from_tensor(reply.outputs["y"]).tolist() == [[2, 3], [6, 7]]
        good = await caller.ask(step=caller.frame([(handles[1], 0)], np.array([2])))
        assert from_tensor(good.outputs["y"]).tolist() == [[4, 5]]
