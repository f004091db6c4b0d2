"""Serves calls that begin and never end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Never

import grpc

from statewise.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    sequence_pb2,
    sequence_pb2_grpc,
    tensor_pb2,
)


class Endless(
    admin_pb2_grpc.AdminServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
    sequence_pb2_grpc.SequenceServiceServicer,
):
    """Begins calls and never ends them; notes when one began, when it was given up, and who called."""

    def __init__(self) -> None:
        self.address = ""
        self.began, self.given_up = threading.Event(), threading.Event()
        self.user_agent: str | bytes = ""

    def GetServer(  # noqa: N802
        self, request: admin_pb2.GetServerRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GetServerResponse:
        self.user_agent = dict(context.invocation_metadata())["user-agent"]
        return admin_pb2.GetServerResponse(limits=admin_pb2.Limits(message_bytes=1 << 20))

    def GetModel(  # noqa: N802
        self, request: model_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> model_pb2.GetModelResponse:
        spec = model_pb2.TensorSpec(
            name="x", dtype=tensor_pb2.DataType.DATA_TYPE_FLOAT32, shape=[3], per_step=True
        )
        model = model_pb2.Model(
            name=request.name,
            version=1,
            inputs=[spec],
            outputs=[spec],
            streamable=True,
            generative=True,
            emitted=spec,
        )
        return model_pb2.GetModelResponse(model=model)

    def Predict(  # noqa: N802
        self, request: sequence_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> Iterator[sequence_pb2.PredictResponse]:
        return self._never(context)

    def Generate(  # noqa: N802
        self, request: sequence_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[sequence_pb2.GenerateResponse]:
        value = tensor_pb2.Tensor(dtype=tensor_pb2.DataType.DATA_TYPE_FLOAT32, shape=[1, 3], data=bytes(12))
        one = (1).to_bytes(4, "little")
        yield sequence_pb2.GenerateResponse(rows=bytes(4), lengths=one, outputs={"x": value})
        yield from self._never(context)

    def _never(self, context: grpc.ServicerContext) -> Iterator[Never]:
        context.add_callback(self.given_up.set)
        self.began.set()
        self.given_up.wait()
        yield from ()


@contextmanager
def endless_server() -> Iterator[Endless]:
    """Serves these calls on a free port."""
    servicer = Endless()  # type: ignore[abstract]  # the other calls are not made
    server = grpc.server(ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()
