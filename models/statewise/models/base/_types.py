"""Names the array types that annotations share; adds no behaviour.

Shapes are written beside each use, in the letters T (time), B (batch), I (input), H (hidden),
O (output), G (gates), K (tokens), E (embedding).
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Array: TypeAlias = npt.NDArray[Any]
