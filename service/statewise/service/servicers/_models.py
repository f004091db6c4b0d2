"""statewise.v1.ModelService: what is served."""

from typing import Any

from statewise.service import convert
from statewise.service.dataplane import Dataplane
from statewise.service.models import LoadedModel
from statewise.service.servicers._reporting import Context, not_built, reports
from statewise.v1 import model_pb2, model_pb2_grpc


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """statewise.v1.ModelService."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._models = dataplane.models

    @reports
    async def ListModels(self, _: Any, __: Context) -> model_pb2.ListModelsResponse:
        """All versions, also those that could not be loaded."""
        messages = [self._message(loaded) for loaded in self._models]
        messages += [convert.broken_model(broken) for broken in self._models.broken]
        return model_pb2.ListModelsResponse(models=sorted(messages, key=lambda m: (m.name, m.version)))

    @reports
    async def GetModel(self, request: model_pb2.GetModelRequest, _: Context) -> model_pb2.GetModelResponse:
        """One version."""
        loaded = self._models.find(request.name, request.version)
        return model_pb2.GetModelResponse(model=self._message(loaded))

    LoadModel = reports(not_built("loading a model by request"))
    UnloadModel = reports(not_built("unloading a model"))

    def _message(self, loaded: LoadedModel) -> model_pb2.Model:
        package = loaded.package
        return convert.model(loaded, is_default=self._models.default_version(package.name) == package.version)
