"""Decides the identity of a caller, and the caller's scopes. Never gRPC: the interceptor is in transport."""
