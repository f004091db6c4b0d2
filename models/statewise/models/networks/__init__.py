"""Builds networks: spec, parameters, layers, head, losses, units; no recipe, no data set, no file."""
