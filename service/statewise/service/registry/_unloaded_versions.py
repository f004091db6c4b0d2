"""Loads versions that were unloaded once more, for sessions that slept meanwhile and for these alone."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from statewise.service.base import ServiceError
from statewise.service.registry._loaded_model import LoadedModel, VersionState
from statewise.service.registry._repository import VersionFolder
from statewise.service.registry._version_loader import PreparedVersion, VersionLoader
from statewise.service.registry._version_records import VersionRecords
from statewise.wire import Reason

_log = logging.getLogger(__name__)


class UnloadedVersions:
    """Loads unloaded versions. They are offered to no new work, and leave memory with their last session.

    Args:
        records: Of all versions.
        loader: Reads and tests versions.
        executor: Where it does so.
        finish: Makes a loaded version of a prepared one, or says why that is not possible.
    """

    def __init__(
        self,
        records: VersionRecords,
        loader: VersionLoader,
        executor: Executor,
        finish: Callable[[PreparedVersion | str], LoadedModel | str],
    ) -> None:
        self._records = records
        self._loader = loader
        self._executor = executor
        self._finish = finish

    async def load(self, folder: VersionFolder | None) -> None:
        """Loads a version, if it was unloaded. The caller opens a session before it waits for anything.

        Raises:
            ServiceError: PACKAGE_INVALID, with the reason.
        """
        record = None if folder is None else self._records.get(folder.key)
        if folder is None or record is None or record.state is not VersionState.UNLOADED:
            return
        if folder.key in self._records.newest():
            return
        loop = asyncio.get_running_loop()
        finished = self._finish(await loop.run_in_executor(self._executor, self._loader.prepare, folder))
        if isinstance(finished, str):
            raise ServiceError(Reason.PACKAGE_INVALID, finished.partition("\n")[0])
        self._records.in_memory[finished.number] = finished
        _log.info("%s/%d was unloaded; it is served to sessions that slept", *folder.key)
