"""Implements the calls of the service without transport. Knows neither messages nor gRPC."""

from statewise.service.base import StoredCheckpoint
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._generator import Generator
from statewise.service.dataplane._predict_text import predict_texts
from statewise.service.dataplane._prediction import PredictPart
from statewise.service.dataplane._session_checkpoints import SessionCheckpoints
from statewise.service.dataplane._session_generator import SessionGenerator
from statewise.service.dataplane._session_states import ReadStates, SessionStates
from statewise.service.dataplane._state_listing import ShownState, StateListing, StateMatrix
from statewise.service.dataplane.delivery import CancellationToken, GeneratedPart, SessionEnds, parts_within
from statewise.service.dataplane.sessions import (
    ExpectedSessions,
    InitialStates,
    ListedSession,
    OpenedSession,
    PageStart,
    Portions,
    Residence,
)
from statewise.service.dataplane.states import GenerationInputs, given_positions, given_states
from statewise.service.session_state import Durability, checkpoint_bytes_of

__all__ = [
    "CancellationToken",
    "Dataplane",
    "Durability",
    "ExpectedSessions",
    "GeneratedPart",
    "GenerationInputs",
    "Generator",
    "InitialStates",
    "ListedSession",
    "OpenedSession",
    "PageStart",
    "Portions",
    "PredictPart",
    "ReadStates",
    "Residence",
    "SessionCheckpoints",
    "SessionEnds",
    "SessionGenerator",
    "SessionStates",
    "ShownState",
    "StateListing",
    "StateMatrix",
    "StoredCheckpoint",
    "checkpoint_bytes_of",
    "given_positions",
    "given_states",
    "parts_within",
    "predict_texts",
]
