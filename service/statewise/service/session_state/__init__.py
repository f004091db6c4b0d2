"""Keeps sessions and their states in arrays. Never scheduling, asyncio or gRPC."""
