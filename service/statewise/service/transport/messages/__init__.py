"""Converts messages of the contract to values and back, and failures to statuses. Never decides anything."""
