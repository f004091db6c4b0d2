"""Decides which steps and jobs share a run, and when they run. Never looks up models, knows no gRPC."""

from statewise.service.scheduling._generation_job import EmittedChunk, GenerationJob
from statewise.service.scheduling._job import Job
from statewise.service.scheduling._scheduler import Scheduler
from statewise.service.scheduling._sequence_job import SequenceJob

__all__ = [
    "EmittedChunk",
    "GenerationJob",
    "Job",
    "Scheduler",
    "SequenceJob",
]
