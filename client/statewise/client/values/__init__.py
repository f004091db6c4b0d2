"""Holds the values that the client reads and gives: errors, inputs, outputs, limits; never sends a request."""
