"""Lets NumPy's matrix products use the processor's widest registers.

The OpenBLAS in NumPy's wheels knows processors by name, and takes AVX2 kernels for AMD models that are newer
than itself. Where such a processor has AVX-512, the kernels for that run just as well and about twice as
fast. Whoever sets OPENBLAS_CORETYPE decides otherwise.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

_NEEDED = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})


def prefer_wide_kernels(
    environment: MutableMapping[str, str] = os.environ, processor: Path = Path("/proc/cpuinfo")
) -> None:
    """Names the kernels to OpenBLAS; has to come before NumPy is imported.

    Args:
        environment: Of this process.
        processor: Linux's description of the processor; where there is none, nothing is done.
    """
    if "OPENBLAS_CORETYPE" in environment:
        return
    try:
        described = processor.read_text()
    except OSError:
        return
    fields = dict(line.split(":", 1) for line in described.splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    if named.get("vendor_id") == "AuthenticAMD" and set(named.get("flags", "").split()) >= _NEEDED:
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
