"""Serves one model whose versions change under its sessions, by a clock that the test sets."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from statewise.service.dataplane import Dataplane


@dataclass
class Clock:
    """A clock that the test sets."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Served:
    """The dataplane under test, its clock, and the folder of its one model, `steps`."""

    dataplane: Dataplane
    clock: Clock
    folder: Path
    source: Path

    async def publish(self) -> None:
        """Publishes version 2 beside version 1."""
        if not (self.folder / "2").exists():
            shutil.copytree(self.source / "2", self.folder / ".2")
            os.rename(self.folder / ".2", self.folder / "2")
        await self.dataplane.models.follow()
        await self.dataplane.models.wait_until_loaded()

    async def remove(self) -> None:
        """Leaves version 1 alone for new sessions; sessions of version 2 stay on it."""
        shutil.rmtree(self.folder / "2", ignore_errors=True)
        await self.dataplane.models.follow()

    async def choose(self, version: int | None) -> None:
        """Sets the default version; None: the highest."""
        if version is None:
            (self.folder / "model.toml").unlink(missing_ok=True)
        else:
            (self.folder / "model.toml").write_text(f"default_version = {version}\n")
        await self.dataplane.models.follow()
