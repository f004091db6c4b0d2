"""Feeds networks their own outputs: draws tokens, continues series; no text, no random generator."""
