"""Runs sessions that write down each output that they see, and that go on by id when the program starts anew.

    python -m tests.chaos.recording ADDRESS FOLDER NAME SEED REQUESTS

Prints a dot for each output.
"""

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.chaos.recorded_kinds import KINDS, Kind
from tests.client.clients import Clients

from statewise.client import AsyncClient, Client

WAYS: dict[str, Any] = {"threads": Client, "tasks": AsyncClient}
UNDO_EVERY = 8
RECONNECT_S = 120.0


@dataclass(frozen=True)
class Line:
    """What a program has seen.

    Attributes:
        what: "begun" by opening or resuming, "seen", or "undoing" or "undone" to these positions.
        positions: Where its sessions stand.
        output: Bytes of the output.
    """

    what: str
    positions: list[int]
    output: bytes = b""


def read_lines(path: Path) -> list[Line]:
    """Reads what programs have seen; a last line that is not whole does not count."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    parts = [json.loads(line) for line in whole.splitlines()]
    return [Line(what, positions, bytes.fromhex(output)) for what, positions, output in parts]


class Record:
    """Lines in a file that outlives the program."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._file.truncate(path.read_bytes().rfind(b"\n") + 1)
        self.lines = read_lines(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def seen(self) -> int:
        """Outputs that the program has seen."""
        return sum(line.what == "seen" for line in self.lines)

    def note(self, what: str, positions: Sequence[int], output: bytes = b"") -> None:
        """Adds a line; returns when the file has it."""
        line = Line(what, [int(position) for position in positions], output)
        self.lines.append(line)
        self._file.write(json.dumps([line.what, line.positions, output.hex()]).encode() + b"\n")
        if what == "seen":
            os.write(1, b".")


def run(client: Client, name: str, kind: Kind, requests: int, path: Path) -> None:
    """Runs sessions until so many outputs were seen, by this program and those before it."""
    with Record(path) as record:
        sessions = kind.resume(client, name) if record.lines else kind.open(client, name)
        record.note("begun", kind.positions(sessions))
        while (request := record.seen) < requests:
            before = kind.positions(sessions)
            output = kind.act(sessions, request)
            record.note("seen", kind.positions(sessions), output)
            if kind.undoes and request % UNDO_EVERY == 0:
                record.note("undoing", before)
                sessions.rewind()
                record.note("undone", kind.positions(sessions))


def names_and_kinds(program: str, seed: int, requests: int) -> list[tuple[str, str, Kind]]:
    """What a program runs: a way of WAYS, a name, and a kind of sessions."""
    number = 0
    found = []
    for way in WAYS:
        for kind in KINDS:
            found.append((way, f"{kind.__name__}-{program}-{way}", kind(seed + 10 * number, requests)))
            number += 1
    return found


def main(address: str, folder: str, program: str, seed: str, requests: str) -> None:
    """Runs every kind in a thread and as a task, to its end."""
    made = {way: Clients(kind) for way, kind in WAYS.items()}
    clients = {way: each.connect(address, reconnect_s=RECONNECT_S) for way, each in made.items()}
    chosen = names_and_kinds(program, int(seed), int(requests))
    with ThreadPoolExecutor(len(chosen)) as pool:
        waiting = [
            pool.submit(run, clients[way], name, kind, int(requests), Path(folder) / name)
            for way, name, kind in chosen
        ]
        for ended in waiting:
            ended.result()
    for each in made.values():
        each.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
