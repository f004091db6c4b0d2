"""Opens gRPC channels and translates their errors; the only folder that imports grpc."""

from statewise.client.transport._channel import (
    ENDED,
    KEEPALIVE_S,
    Endpoint,
    Tls,
    carried,
    predict,
    session_stream,
    status_of,
)

__all__ = ["ENDED", "KEEPALIVE_S", "Endpoint", "Tls", "carried", "predict", "session_stream", "status_of"]
