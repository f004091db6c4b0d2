"""Defines what every folder above shares: errors, settings, limits, batches of steps, ragged columns. Never behaviour of the server."""
