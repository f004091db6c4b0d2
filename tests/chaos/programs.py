"""Uses sessions in every way a client offers, in the same way at each run, and notes each output."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from statewise.client import Client, Session

INPUTS = 3
SOURCES = ("pqr", "s", "ttttt", "rst")


class Progress:
    """Counts what programs have done together."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._done = 0
        self._running = 0
        self.over = False
        """Programs without a number of requests end here."""

    def add(self) -> None:
        """Counts one request that was answered."""
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def begin(self) -> None:
        """Counts a program that begins."""
        with self._changed:
            self._running += 1

    def end(self) -> None:
        """Counts a program that ends, however it does."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait_for_more(self, count: int) -> bool:
        """Waits for that many further answers; returns False if all programs have ended before."""
        with self._changed:
            done = self._done + count
        return self.wait(done)

    def wait(self, done: int) -> bool:
        """Waits for so many answers; returns False if all programs have ended before."""
        with self._changed:
            self._changed.wait_for(lambda: self._done >= done or not self._running)
            return self._done >= done


@dataclass
class Run:
    """One run of a program.

    Attributes:
        client: The program's client.
        name: Names its sessions.
        seed: Decides what it does.
        requests: How often it asks for something; None: until `progress.over`.
        progress: Counts the answers.
    """

    client: Client
    name: str
    seed: int
    requests: int | None
    progress: Progress
    outputs: list[NDArray[np.generic]] = field(default_factory=list)
    """What came, in order; the session's position stands behind each."""
    asked: int = 0
    """Requests so far."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def note(self, output: object, *sessions: Session) -> None:
        """Notes one output, and where the sessions stand after it."""
        assert isinstance(output, np.ndarray | np.generic | list)
        self.outputs.append(np.asarray(output))
        self.outputs.append(np.array([session.position for session in sessions]))
        self.progress.add()

    def turns(self) -> Iterator[int]:
        """Numbers the requests that it is to make."""
        while not self.progress.over if self.requests is None else self.asked < self.requests:
            yield self.asked
            self.asked += 1

    def inputs(self, *shape: int) -> NDArray[np.float32]:
        """Draws inputs."""
        return self.random.standard_normal((*shape, INPUTS)).astype(np.float32)


def single_steps(run: Run) -> None:
    """A session that takes one time step after another."""
    with run.client.session("steps", id=run.name) as session:
        for _ in run.turns():
            run.note(session.step(run.inputs()), session)


def chunks(run: Run) -> None:
    """A session that takes one to a hundred time steps at once, and undoes one request in eight."""
    with run.client.session("steps", id=run.name) as session:
        for _ in run.turns():
            run.note(session.step(run.inputs(int(run.random.integers(1, 101)))), session)
            if not run.random.integers(8):
                session.rewind()


def group(run: Run) -> None:
    """Five sessions, all of them or some stepped together."""
    with run.client.sessions("steps", ids=[f"{run.name}-{row}" for row in range(5)]) as sessions:
        for _ in run.turns():
            index = np.flatnonzero(run.random.integers(0, 2, 5))
            if len(index):
                run.note(sessions.step(run.inputs(len(index)), index=index))
                run.outputs.append(sessions.positions)


def forks(run: Run) -> None:
    """A session whose copies go on beside it, one after the other."""
    with run.client.session("steps", id=run.name) as session:
        twin = session.fork()
        for _ in run.turns():
            x = run.inputs()
            run.note(np.stack([session.step(x), twin.step(x)]), session, twin)
            if not run.random.integers(20):
                twin.close()
                twin = session.fork()
        twin.close()


def generation(run: Run) -> None:
    """A session that generates tokens, a few at a time, and reads others in between."""
    with run.client.session("chatter", id=run.name) as session:
        session.step(np.int64(7))
        for request in run.turns():
            if run.random.integers(2):
                count = int(run.random.integers(1, 9))
                run.note(list(session.generate(steps=count, seed=run.seed, text=False)), session)
            else:
                run.note(session.step(np.int64(request % 6 + 1)), session)


def encoder_decoder(run: Run) -> None:
    """A session that begins with what an encoder leaves."""
    source = SOURCES[run.seed % len(SOURCES)]
    with run.client.session("speech", id=run.name, condition=source) as session:
        for _ in run.turns():
            run.note(session.step(run.random.integers(1, 7)), session)


Program = Callable[[Run], None]
PROGRAMS: tuple[Program, ...] = (single_steps, chunks, group, forks, generation, encoder_decoder)


def programs(count: int, kinds: Sequence[Program] = PROGRAMS) -> list[tuple[str, Program]]:
    """Programs in turn, each with a name of its own."""
    named = [kinds[number % len(kinds)] for number in range(count)]
    return [(f"{program.__name__}-{number}", program) for number, program in enumerate(named)]


def run_counted(run: Run, program: Program) -> Run:
    """Runs a program to its end."""
    try:
        program(run)
    finally:
        run.progress.end()
    return run
