"""Implements the calls of the service without transport. Never messages or gRPC."""
