"""Defines what all folders above share: errors, settings, limits, step batches. Never starts or runs work."""

from statewise.service.base._errors import (
    RowFailure,
    ServiceError,
    given_up,
    model_fault,
    server_fault,
    shortened,
)
from statewise.service.base._limits import Rules
from statewise.service.base._ragged import elements_of, places_in_row, starts_of
from statewise.service.base._settings import Settings, SettingsError, is_loopback
from statewise.service.base._step_batch import Control, StepFrame, StepResult
from statewise.service.base._types import SLOT_BITS, Array, Cells, Handles, ModelKey, Slots

__all__ = [
    "SLOT_BITS",
    "Array",
    "Cells",
    "Control",
    "Handles",
    "ModelKey",
    "RowFailure",
    "Rules",
    "ServiceError",
    "Settings",
    "SettingsError",
    "Slots",
    "StepFrame",
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
