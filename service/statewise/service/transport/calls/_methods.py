"""Lists the methods of a service, from its descriptor and an object that implements it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service.

    Attributes:
        service: Full name of the service.
        name: Name of the method in the service.
        behaviour: Serves a call. Takes the decoded request and the call, or the call alone where the client
            streams. Returns the response, or None where it has sent its responses itself.
        decode: Decodes the request; None: the client streams, and the behaviour reads.
        responds_once: Whether there is exactly one response.
    """

    service: str
    name: str
    behaviour: Callable[..., Awaitable[Any]]
    decode: Callable[[bytes], Any] | None
    responds_once: bool

    @property
    def path(self) -> str:
        """/SERVICE/METHOD, by which a client calls the method."""
        return f"/{self.service}/{self.name}"


def methods_of(service: ServiceDescriptor, servicer: object) -> list[Method]:
    """Returns the methods of a service that the servicer implements, by a coroutine method of the same name.

    Callers of the others receive UNIMPLEMENTED: newer releases of grpcio-health-checking describe methods
    that older ones do not know.
    """
    return [
        Method(
            service.full_name,
            method.name,
            getattr(servicer, method.name),
            None if method.client_streaming else GetMessageClass(method.input_type).FromString,
            responds_once=not method.server_streaming,
        )
        for method in service.methods
        if hasattr(servicer, method.name)
    ]
