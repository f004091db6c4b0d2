"""Speaks gRPC: the only folder that imports grpc. Never decides about models or sessions."""
