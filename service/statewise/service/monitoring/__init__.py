"""Reports the running server: metrics, gauges, readiness, HTTP probes. Never changes what the server does."""

from statewise.service.monitoring._http_probe import HttpProbe
from statewise.service.monitoring._metrics import make_registry
from statewise.service.monitoring._model_gauges import ModelGauges, read_model_gauges
from statewise.service.monitoring._readiness import Readiness

__all__ = [
    "HttpProbe",
    "ModelGauges",
    "Readiness",
    "make_registry",
    "read_model_gauges",
]
