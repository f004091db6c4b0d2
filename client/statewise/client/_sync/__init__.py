"""Implements `Client` with threads that block; decides nothing that `core` can decide."""
