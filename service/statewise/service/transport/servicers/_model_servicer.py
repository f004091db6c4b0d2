"""Implements statewise.v1.ModelService: lists, loads and unloads model versions."""

from collections.abc import Callable
from typing import Any

from statewise.service.dataplane import Dataplane
from statewise.service.registry import LoadedModel, VersionStatus
from statewise.service.transport.calls import Call
from statewise.service.transport.messages import model_message
from statewise.v1 import model_pb2


class ModelServicer:
    """statewise.v1.ModelService.

    Args:
        dataplane: The server's behaviour.
        changed: Called after a version was loaded or unloaded.
    """

    def __init__(self, dataplane: Dataplane, *, changed: Callable[[], None]) -> None:
        self._models = dataplane.models
        self._request_steps = dataplane.limits.settings.request_steps
        self._changed = changed

    async def ListModels(self, _: Any, __: Call) -> model_pb2.ListModelsResponse:
        """Returns all versions, those that failed to load included."""
        return model_pb2.ListModelsResponse(
            models=[self._message(status) for status in self._models.statuses()]
        )

    async def GetModel(self, request: model_pb2.GetModelRequest, _: Call) -> model_pb2.GetModelResponse:
        """Returns one version that serves, even if it only serves sessions that are open already."""
        loaded = self._models.look_up(request.name, request.version)
        return model_pb2.GetModelResponse(model=self._message_of(loaded))

    async def LoadModel(self, request: model_pb2.LoadModelRequest, _: Call) -> model_pb2.LoadModelResponse:
        """Replies when the version serves."""
        loaded = await self._models.load(request.name, request.version)
        self._changed()
        return model_pb2.LoadModelResponse(model=self._message_of(loaded))

    async def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, _: Call
    ) -> model_pb2.UnloadModelResponse:
        """Replies when no new request gets the version."""
        status = await self._models.unload(request.name, request.version)
        self._changed()
        return model_pb2.UnloadModelResponse(model=self._message(status))

    def _message_of(self, loaded: LoadedModel) -> model_pb2.Model:
        return self._message(next(status for status in self._models.statuses() if status.loaded is loaded))

    def _message(self, status: VersionStatus) -> model_pb2.Model:
        return model_message(
            status,
            is_default=self._models.default_version(status.name) == status.version,
            request_steps=self._request_steps,
        )
