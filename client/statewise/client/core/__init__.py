"""Plans everything that a client does, for both shells; performs no input or output."""

from statewise.client.core._client_core import ClientCore
from statewise.client.core._sequences import GeneratePlan

__all__ = ["ClientCore", "GeneratePlan"]
