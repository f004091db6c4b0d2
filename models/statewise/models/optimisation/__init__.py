"""Turns gradients into updates of a flat parameter vector: optimisers, clipping, schedules; no network."""
