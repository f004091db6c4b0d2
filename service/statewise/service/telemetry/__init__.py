"""Counts, logs and traces requests as they happen. Never reads models or the dataplane."""
