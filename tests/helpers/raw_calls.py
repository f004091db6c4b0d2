"""Makes calls of a channel that take and give bytes as they are."""

import grpc


def unary_unary(channel: grpc.aio.Channel, method: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    """A call with one request and one answer."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return call


def unary_stream(channel: grpc.aio.Channel, method: str) -> "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]":
    """A call with one request and many answers."""
    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
    return call


def stream_stream(
    channel: grpc.aio.Channel, method: str
) -> "grpc.aio.StreamStreamMultiCallable[bytes, bytes]":
    """A call with many requests and many answers."""
    call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    return call
