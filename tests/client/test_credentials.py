"""What a client shows of itself with every call."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from statewise.client import Tls, Unauthenticated, Unavailable
from statewise.v1 import admin_pb2, admin_pb2_grpc


class Doorman(admin_pb2_grpc.AdminServiceServicer):
    """Lets callers in who have the token."""

    def GetServer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if dict(context.invocation_metadata()).get("authorization") != "Bearer open sesame":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")
        return admin_pb2.GetServerResponse(version="1.2.3")


@pytest.fixture
def guarded() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(Doorman(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_token_travels_with_every_call(connect: Any, guarded: str) -> None:
    assert connect(guarded, token="open sesame").server().version == "1.2.3"


@pytest.mark.parametrize("token", [None, "open barley"])
def test_without_the_token_the_advice_is_to_pass_one(connect: Any, guarded: str, token: str | None) -> None:
    with pytest.raises(Unauthenticated, match=r"no valid token; pass token="):
        connect(guarded, token=token).server()


@pytest.mark.parametrize("tls", [True, Tls(server_name="elsewhere")])
def test_a_server_without_tls_is_not_talked_to(connect: Any, guarded: str, tls: Any) -> None:
    with pytest.raises(Unavailable):
        connect(guarded, token="open sesame", tls=tls).server()


def test_a_certificate_that_is_no_file_is_named(connect: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
        connect("127.0.0.1:1", tls=Tls(ca="nowhere.pem")).server()
