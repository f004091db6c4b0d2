"""Mounts small disks, fills them, and makes files immutable. Skips a test whose user may not do so."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def _run_or_skip(*command: str, needs: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"needs {needs}: {command[0]} is not installed")
    if done.returncode:
        pytest.skip(f"needs {needs}: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, in memory, in a new folder.

    Args:
        folder: Where it is mounted.
        options: Of tmpfs, like "size=2m".
    """
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    _run_or_skip(*mount, needs="root that may mount a file system (CAP_SYS_ADMIN)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Makes a mounted file system read-only; none of its files may be open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leaves no room on a disk, by a file that goes at the end."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    """Lets nobody change a folder and its files, neither root nor a process that has them open.

    Files that SQLite shares by mapping them stay as they are: the attribute would end a process that writes
    to such memory, which a read-only file system does not.
    """
    names = [str(folder), *(str(file) for file in folder.iterdir() if not file.name.endswith("-shm"))]
    _run_or_skip("chattr", "+i", *names, needs="root, and a file system with the attribute +i, like ext4")
    try:
        descriptor = os.open(names[-1], os.O_WRONLY)
    except PermissionError:
        pass
    else:
        os.close(descriptor)
        pytest.skip("needs root that obeys the attribute +i")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *names], check=True)
