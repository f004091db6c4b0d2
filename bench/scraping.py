"""Reads a server's metrics: at one moment, or every second while something else runs."""

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 1.0


def free_address() -> str:
    """Returns HOST:PORT of a free port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def scrape(address: str) -> dict[str, float]:
    """Returns the metrics by name; those of several labels are added up."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
    return found


@contextmanager
def each_second(act: Callable[[], None]) -> Iterator[None]:
    """Calls a function every second from another thread while the context is open."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(EVERY_S):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
