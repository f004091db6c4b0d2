"""Holds what every other folder may need: array types, errors, scratch memory, BLAS threads; no network."""
