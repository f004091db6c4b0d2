"""Reads snapshot tokens that earlier builds signed."""

import base64

from statewise.service.session_state import Snapshot, Snapshots

WITHOUT_VERSION = (
    "U1dTMZDPkUqAAAAABAAAAAAAAAB7Im93bmVyIjogImFkYSIsICJtb2RlbCI6ICJzdGVwcyIsICJkaWdlc3QiOiAiYWJhYmFiYWJh"
    "YmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYiIsICJwb3NpdGlvbiI6IDQxfQEC"
    "AwSb02tpPnUmqjJxg1deIdqYKAcAWtfIVqYaMdPVYQN6DQ=="
)


def test_a_token_without_a_version_is_read() -> None:
    token = base64.b64decode(WITHOUT_VERSION)
    snapshot = Snapshots(b"k" * 16).read(token, owner="ada")
    assert snapshot == Snapshot("ada", "steps", 0, "ab" * 32, 41, b"\x01\x02\x03\x04")
