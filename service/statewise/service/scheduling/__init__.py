"""Decides which steps and jobs share a run, and when they run. Never looks up models, knows no gRPC."""

from statewise.service.scheduling._scheduler import Scheduler
from statewise.service.scheduling.jobs import (
    EmittedChunk,
    GenerationJob,
    Job,
    SequenceJob,
    SequenceRequest,
    SequenceResults,
)

__all__ = [
    "EmittedChunk",
    "GenerationJob",
    "Job",
    "Scheduler",
    "SequenceJob",
    "SequenceRequest",
    "SequenceResults",
]
