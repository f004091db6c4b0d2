"""Checks the bytes of commands for a Redis server against those of redis-py's own packer."""

from typing import Any

import numpy as np
import pytest
from redis import Connection

from statewise.service.stores.redis._command_packer import Argument, CommandPacker, encode_rows


@pytest.mark.parametrize("name", ["SCRIPT LOAD", b"EVALSHA"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_command_is_packed_as_redis_py_packs_it(
    name: str | bytes, rows: int, random: np.random.Generator
) -> None:
    first, second = (random.integers(0, 256, (rows, width), np.uint8) for width in (64, 1000))
    one_by_one = [a.tobytes() + b.tobytes() for a, b in zip(first, second, strict=True)]
    leading: list[Argument] = ["é", 0, b"", b"\r\n $"]
    trailing: list[Argument] = [b"last", -7, 2**63]
    packed = CommandPacker().pack(name, *leading, encode_rows(first, second), *trailing)
    theirs: Any = Connection  # redis-py declares no types of its methods
    expected = theirs().pack_command(name, *leading, *one_by_one, *trailing)
    assert b"".join(packed) == b"".join(expected)


def test_an_argument_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError):
        CommandPacker().pack("SET", b"key", None)  # type: ignore[arg-type]
