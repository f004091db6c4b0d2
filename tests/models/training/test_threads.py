"""Checks the number of threads inside a `blas_threads` block, and that leaving the block restores it."""

import pytest

from statewise.models import blas_threads


def test_threads_inside_and_after() -> None:
    with blas_threads(2) as outer:
        if outer is None:
            pytest.skip("NumPy is not built on the OpenBLAS of its wheels")
        with blas_threads(1) as inner:
            assert inner == 1
        with blas_threads(0) as after:
            assert after == outer

        def fail() -> None:
            with blas_threads(1):
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        with blas_threads(0) as after:
            assert after == outer
