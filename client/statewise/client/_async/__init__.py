"""Implements `AsyncClient` on an event loop; decides nothing that `core` can decide."""
