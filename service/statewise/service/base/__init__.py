"""Defines what all other folders share: errors, settings, limits, step batches, columns. Runs nothing."""

from statewise.service.base._addresses import is_loopback
from statewise.service.base._errors import (
    RowFailure,
    ServiceError,
    abandoned,
    model_fault,
    server_fault,
    shortened,
    store_unavailable,
)
from statewise.service.base._limits import ServiceLimits, check_name
from statewise.service.base._padded import blank_padded, padded_shape, put_padded, take_padded
from statewise.service.base._ragged import RaggedColumns, elements_of, offsets_in_rows, starts_of
from statewise.service.base._settings import Settings
from statewise.service.base._settings_entries import SettingsError
from statewise.service.base._step_batch import Barrier, StepBatch, StepResult
from statewise.service.base._types import (
    MOST_KEPT,
    SLOT_BITS,
    Array,
    Cells,
    Handles,
    Indices,
    ModelKey,
    Slots,
    StoredCheckpoint,
)

__all__ = [
    "MOST_KEPT",
    "SLOT_BITS",
    "Array",
    "Barrier",
    "Cells",
    "Handles",
    "Indices",
    "ModelKey",
    "RaggedColumns",
    "RowFailure",
    "ServiceError",
    "ServiceLimits",
    "Settings",
    "SettingsError",
    "Slots",
    "StepBatch",
    "StepResult",
    "StoredCheckpoint",
    "abandoned",
    "blank_padded",
    "check_name",
    "elements_of",
    "is_loopback",
    "model_fault",
    "offsets_in_rows",
    "padded_shape",
    "put_padded",
    "server_fault",
    "shortened",
    "starts_of",
    "store_unavailable",
    "take_padded",
]
