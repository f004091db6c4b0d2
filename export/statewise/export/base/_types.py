"""Names the array type that annotations use; shapes stand in comments and docstrings."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
