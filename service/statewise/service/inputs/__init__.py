"""Checks and arranges a caller's inputs: arrays, texts, prompts. Never sessions, runs or gRPC."""
