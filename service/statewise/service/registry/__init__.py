"""Finds, reads, tests and holds model versions. Never requests of callers."""
