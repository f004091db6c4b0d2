"""Counts how often the threads of a server wait, which tells the threads that read its sockets."""

import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.server_process import ServerProcesses

STEPS = 500


def waits_of_other_threads(process: int) -> int:
    """Times that a thread of the process, but its main one, has waited."""
    return sum(
        int(
            re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", (thread / "status").read_text(), re.MULTILINE)[0]
        )
        for thread in Path(f"/proc/{process}/task").iterdir()
        if thread.name != str(process)
    )


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux, whose /proc lists threads")
@pytest.mark.skipif(not grpc.__version__.startswith("1.85."), reason="no switch is known for this grpcio")
@pytest.mark.parametrize(("experiments", "reads_alone"), [(None, True), ("", False)])
async def test_the_thread_that_polls_reads_the_sockets_unless_the_operator_says_otherwise(
    processes: ServerProcesses,
    monkeypatch: pytest.MonkeyPatch,
    *,
    experiments: str | None,
    reads_alone: bool,
) -> None:
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    if experiments is not None:
        monkeypatch.setenv("GRPC_EXPERIMENTS", experiments)
    server = processes.start(transport="queue")
    async with connect(server.address) as caller:
        (handle,) = await caller.open("steps", "a")
        x = np.ones(3, np.float32)
        await caller.step(handle, 0, x)
        before = waits_of_other_threads(server.child.pid)
        for position in range(1, STEPS):
            await caller.step(handle, position, x)
        waits = waits_of_other_threads(server.child.pid) - before
    assert (waits < STEPS / 2) is reads_alone, waits
