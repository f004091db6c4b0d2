"""Loads and tests versions in a process of its own: `python -m statewise.service.registry._inspector`.

Reads requests from standard input and writes what happens to standard output, one JSON object a line:
`{"stage": "read"}` and `{"stage": "load"}` before each dangerous step, then `{"inspection": …}` or
`{"failure": text}`. A graph that crashes onnxruntime ends this process and not the server's.
"""

import json
import os
import queue
import resource
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TextIO

from statewise.service.engine import TimeBudget, load_engine
from statewise.service.packages import read_package
from statewise.service.registry._inspection import Inspection, InspectionRequest
from statewise.service.registry._repository import VersionFolder
from statewise.service.registry._version_loader import failure_of, load_graphs


def main() -> None:
    """Answers requests until the input ends. The argument is the most bytes of memory that are allowed."""
    _limit_memory(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        _answer(InspectionRequest.from_json(requests.get()), answers)


def _read_requests(requests: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the server has gone: also a graph that is being loaded is of no use any more


def _limit_memory(most_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    # Where the machine has no memory left, Linux ends this process first.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _answer(request: InspectionRequest, answers: TextIO) -> None:
    def say(**message: object) -> None:
        print(json.dumps(message), file=answers, flush=True)

    folder = VersionFolder(request.name, request.version, request.folder, ())
    make_engine = partial(
        load_engine,
        intra_op_threads=request.intra_op_threads,
        provider=request.provider,
        optimisation=request.optimisation,
    )
    try:
        say(stage="read")
        package = read_package(folder.name, folder.version, folder.path)
        say(stage="load")
        prepared = load_graphs(package, make_engine, budget=TimeBudget(request.test_s))
    except Exception as error:
        say(failure=failure_of(folder, error))
    else:
        say(inspection=Inspection(package.digest, request.optimisation, prepared.profiles).to_json())


if __name__ == "__main__":
    main()
