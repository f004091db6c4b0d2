"""Defines what all folders above share: errors, settings, limits, step batches. Never starts or runs work."""

from statewise.service.base._errors import (
    RowFailure,
    ServiceError,
    given_up,
    model_fault,
    server_fault,
    shortened,
)
from statewise.service.base._limits import ServiceLimits
from statewise.service.base._ragged import elements_of, places_in_row, starts_of
from statewise.service.base._settings import Settings, SettingsError, is_loopback
from statewise.service.base._step_batch import Barrier, StepBatch, StepResult
from statewise.service.base._types import SLOT_BITS, Array, Cells, Handles, ModelKey, Slots

__all__ = [
    "SLOT_BITS",
    "Array",
    "Barrier",
    "Cells",
    "Handles",
    "ModelKey",
    "RowFailure",
    "ServiceError",
    "ServiceLimits",
    "Settings",
    "SettingsError",
    "Slots",
    "StepBatch",
    "StepResult",
    "elements_of",
    "given_up",
    "is_loopback",
    "model_fault",
    "places_in_row",
    "server_fault",
    "shortened",
    "starts_of",
]
