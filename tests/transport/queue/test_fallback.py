"""Serves where the completion queue cannot be used: the server says so in one line and takes grpc.aio."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.helpers.server_process import SERVE

from statewise.service.transport import port_answers

ALTERED = {
    "grpcio has no CompletionQueue.shutdown, auth_context": """
class Other:
    poll = None
del cygrpc.auth_context
cygrpc.CompletionQueue = Other
""",
    "grpcio has no CompletionQueue, CompletionQueue.poll, CompletionQueue.shutdown": """
del cygrpc.CompletionQueue
""",
    "an empty batch is no event": """
class Queue(cygrpc.CompletionQueue):
    def poll(self, deadline):
        event = super().poll(deadline)
        return event if isinstance(event.tag, str) else super().poll(0)
cygrpc.CompletionQueue = Queue
""",
    "a call that the server makes to itself does not arrive": """
class Queue(cygrpc.CompletionQueue):
    def poll(self, deadline):
        event = super().poll(deadline)
        return event if event.tag != "call" else super().poll(0)
cygrpc.CompletionQueue = Queue
""",
    "the server cannot call itself: gRPC cannot listen": """
class Server(cygrpc.Server):
    def add_http2_port(self, address, credentials=None):
        return 0 if address.startswith(b"unix") else super().add_http2_port(address, credentials)
cygrpc.Server = Server
""",
}
"""By what the server says: how another grpcio would differ from this one."""


@pytest.mark.parametrize("why", ALTERED)
def test_a_server_says_in_one_line_why_it_takes_aio_and_serves(why: str, repository: Path) -> None:
    program = f"import grpc\nfrom grpc._cython import cygrpc\n{ALTERED[why]}\n{SERVE}"
    settings = {"repository": str(repository), "listen": "127.0.0.1:0", "load_in_child": False}
    with ExitStack() as running:
        child = running.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", program, json.dumps(settings | {"transport": "queue"})],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        running.callback(child.kill)
        assert child.stdout is not None
        address = child.stdout.readline().split()[-1]
        assert port_answers(address, timeout_s=30.0, certificate=None, key=None)
        child.terminate()
        _, log = child.communicate(timeout=60)
        assert child.returncode == 0
    (line,) = (line for line in log.splitlines() if "cannot be used" in line)
    assert f"transport = 'queue' cannot be used ({why}" in line
    assert "the server takes 'aio'" in line
    assert "Traceback" not in log
