"""Multiplexes operations and steps over one session stream; never opens a connection and never waits."""
