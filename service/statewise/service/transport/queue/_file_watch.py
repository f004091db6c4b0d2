"""Watches files for an event loop that polls gRPC's completion queue: waits in a thread and wakes the loop.

A loop's own pipe, child processes and other connections need this, calls do not. The thread waits until the
loop has handled one set of files before it looks for the next, so a file is never reported twice.
"""

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

Ready = list[tuple[selectors.SelectorKey, int]]


class FileWatch:
    """Files, and a thread that waits for them.

    Args:
        wake: Called from the thread when files are ready.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.selector = selectors.DefaultSelector()
        """Holds the files. The thread sees at once what is added and removed."""
        self._stop, ended = socket.socketpair()
        self._ended = ended
        self.selector.register(ended, selectors.EVENT_READ)
        self._ready: Ready | None = None
        self._handled = threading.Semaphore(0)
        self._handed_over = False
        self._thread = threading.Thread(target=self._watch, name="statewise-files", daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Lets the thread look for further files: those that `take` returned have been handled."""
        if self._handed_over:
            self._handed_over = False
            self._handled.release()

    def take(self) -> Ready:
        """Returns the files that are ready.

        A file that was removed or changed since the thread found it is left out: its number may belong to
        another file by now. The thread finds it again if it is still ready.
        """
        ready, self._ready = self._ready, None
        if ready is None:
            return []
        watched = self.selector.get_map()
        unchanged = [(key, events) for key, events in ready if watched.get(key.fd) is key]
        if unchanged:
            self._handed_over = True
        else:
            self._handled.release()
        return unchanged

    def close(self) -> None:
        """Ends the thread."""
        self._stop.close()
        self._handled.release()
        self._thread.join()
        self.selector.close()
        self._ended.close()

    def _watch(self) -> None:
        while True:
            ready = self.selector.select()
            if any(key.fileobj is self._ended for key, _ in ready):
                return
            if ready:
                self._ready = ready
                with suppress(ValueError):
                    self._wake()
                self._handled.acquire()
