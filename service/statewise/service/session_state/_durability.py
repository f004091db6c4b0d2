"""Names when replies about a session leave."""

from enum import IntEnum


class Durability(IntEnum):
    """When a reply about a session leaves; the numbers are those of the contract, and of stored rows."""

    OF_SERVER = 0
    """As the server's setting says."""
    INTERVAL = 1
    """At once; the store follows."""
    REPLY = 2
    """When the store has what it tells."""
