"""Decides which work runs together, and when. Never looks up models, and never gRPC."""
