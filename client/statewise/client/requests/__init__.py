"""Builds requests that need no session and reads their answers; never sends them."""
