"""Opens gRPC channels and translates their errors; the only folder that imports grpc."""
