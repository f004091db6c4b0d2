"""Selects OpenBLAS kernels that use the processor's widest registers.

The OpenBLAS in NumPy's wheels knows processors by name. For AMD models newer than itself it selects AVX2
kernels, even if the processor has AVX-512, whose kernels are about twice as fast there. OPENBLAS_CORETYPE in
the environment takes precedence.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

_NEEDED = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})


def prefer_wide_kernels(
    environment: MutableMapping[str, str] = os.environ, processor: Path = Path("/proc/cpuinfo")
) -> None:
    """Sets OPENBLAS_CORETYPE for AMD processors with AVX-512. Call this before NumPy is imported.

    Args:
        environment: The environment of this process.
        processor: Linux's description of the processor. Without this file nothing is set.
    """
    if "OPENBLAS_CORETYPE" in environment:
        return
    try:
        description = processor.read_text()
    except OSError:
        return
    fields = dict(line.split(":", 1) for line in description.splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    if named.get("vendor_id") == "AuthenticAMD" and set(named.get("flags", "").split()) >= _NEEDED:
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
