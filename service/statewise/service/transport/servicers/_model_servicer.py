"""statewise.v1.ModelService: what is served."""

from collections.abc import Callable
from typing import Any

from statewise.service.dataplane import Dataplane
from statewise.service.registry import LoadedModel, VersionStatus
from statewise.service.transport.messages import _responses as convert
from statewise.service.transport.messages._rpc import Context, reports
from statewise.v1 import model_pb2, model_pb2_grpc


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """statewise.v1.ModelService.

    Args:
        dataplane: The server's behaviour.
        changed: Called when other versions serve than before.
    """

    def __init__(self, dataplane: Dataplane, *, changed: Callable[[], None]) -> None:
        self._models = dataplane.models
        self._limits = dataplane.limits
        self._changed = changed

    @reports
    async def ListModels(self, _: Any, __: Context) -> model_pb2.ListModelsResponse:
        """All versions, also those that could not be loaded."""
        return model_pb2.ListModelsResponse(
            models=[self._message(status) for status in self._models.statuses()]
        )

    @reports
    async def GetModel(self, request: model_pb2.GetModelRequest, _: Context) -> model_pb2.GetModelResponse:
        """One version that serves, be it only its open sessions, whose callers may want to know it."""
        loaded = self._models.look_up(request.name, request.version)
        return model_pb2.GetModelResponse(model=self._message_of(loaded))

    @reports
    async def LoadModel(self, request: model_pb2.LoadModelRequest, _: Context) -> model_pb2.LoadModelResponse:
        """Answers when the version serves."""
        loaded = await self._models.load(request.name, request.version)
        self._changed()
        return model_pb2.LoadModelResponse(model=self._message_of(loaded))

    @reports
    async def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, _: Context
    ) -> model_pb2.UnloadModelResponse:
        """Answers when nothing new gets the version."""
        status = await self._models.unload(request.name, request.version)
        self._changed()
        return model_pb2.UnloadModelResponse(model=self._message(status))

    def _message_of(self, loaded: LoadedModel) -> model_pb2.Model:
        return self._message(next(status for status in self._models.statuses() if status.loaded is loaded))

    def _message(self, status: VersionStatus) -> model_pb2.Model:
        return convert.model(
            status,
            is_default=self._models.default_version(status.name) == status.version,
            request_steps=self._limits.settings.request_steps,
        )
