"""Keeps sessions and groups of sessions: positions, journals, recovery; never opens them."""
