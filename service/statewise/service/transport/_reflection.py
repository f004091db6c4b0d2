"""Tells clients the contract of every service: grpc.reflection.v1alpha, by grpc's own servicer."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from statewise.service.transport.calls import Call, Method


def reflection_methods(services: Sequence[str]) -> list[Method]:
    """Returns the methods of the reflection service.

    Args:
        services: Full names of the other services.
    """
    servicer = reflection.aio.ReflectionServicer((*services, reflection.SERVICE_NAME))

    async def answer(call: Call) -> None:
        # The servicer takes an iterator of requests and never looks at the context.
        async for response in servicer.ServerReflectionInfo(_requests(call), None):
            await call.write(response.SerializeToString())

    name = "ServerReflectionInfo"
    return [Method(reflection.SERVICE_NAME, name, answer, decode=None, responds_once=False)]


async def _requests(call: Call) -> AsyncIterator[Any]:
    while (raw := await call.receive()) is not None:
        yield reflection_pb2.ServerReflectionRequest.FromString(raw)
