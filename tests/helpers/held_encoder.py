"""Holds up the runs of an encoder, so that a test can change what serves, or leave, meanwhile."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from tests.helpers.arrays import Array
from tests.helpers.models.generative import write_two_transducers

from statewise.service import Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane import CancellationToken, Dataplane, Generator, InitialStates
from statewise.service.inputs import RawSequences
from statewise.service.scheduling import Scheduler

SPOKEN = ("pqrst",)


class HeldEncoder:
    """The behaviour of a server of two versions of `speech`, whose runs wait until `go_on` is set."""

    def __init__(self, dataplane: Dataplane, go_on: threading.Event) -> None:
        self.dataplane = dataplane
        self.go_on = go_on

    def scheduler(self, version: int = 0) -> Scheduler:
        """What runs the encoder of a version."""
        scheduler = self.dataplane.models.find("speech", version).encoder_scheduler
        assert scheduler is not None
        return scheduler

    async def begin(self, version: int, text: Sequence[str] = SPOKEN) -> asyncio.Task[InitialStates | None]:
        """Begins to encode; returns once the encoder's run waits."""
        generator, raw = Generator(self.dataplane), RawSequences(text=text)
        encoding = asyncio.create_task(
            generator.encode("speech", version, raw, 1, CancellationToken(), owner="")
        )
        await self.turn_loop()
        assert self.scheduler(version).queued_steps
        return encoding

    async def turn_loop(self) -> None:
        """Lets all run that does not wait."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def states(self, version: int) -> list[Array]:
        """The state that a version computes."""
        raw = RawSequences(text=SPOKEN)
        generator = Generator(self.dataplane)
        encoded = await generator.encode("speech", version, raw, 1, CancellationToken(), owner="")
        assert encoded is not None
        return encoded.of_row(0)[0]


@asynccontextmanager
async def held_encoder(repository: Path) -> AsyncIterator[HeldEncoder]:
    """Writes the models into an empty folder and loads them."""
    write_two_transducers(repository)
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=repository, load_in_child=False, inline_s=0)
        dataplane = build_dataplane(settings, executor=executor)
        await dataplane.models.load_all()
        go_on = threading.Event()
        executor.submit(go_on.wait, 60)
        try:
            yield HeldEncoder(dataplane, go_on)
        finally:
            go_on.set()
