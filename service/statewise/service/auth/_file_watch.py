"""Files that others replace while the server runs: noticing that they did.

Not their contents. A change is told once.
"""

import os
from pathlib import Path


class FileWatch:
    """Notices when files have been written or replaced.

    Args:
        paths: The files.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether any of the files is another one than at the last call, or than at the beginning."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_signature(path) for path in self._paths]


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of what the path leads to; None: nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
