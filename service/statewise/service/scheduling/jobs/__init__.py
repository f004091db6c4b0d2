"""Runs long work slice by slice: jobs, their queue, and rows that start behind beginnings known already."""

from statewise.service.scheduling.jobs._generation_job import EmittedChunk, GenerationJob
from statewise.service.scheduling.jobs._job import Job, JobSlice
from statewise.service.scheduling.jobs._job_queue import AbandonedJob, JobQueue
from statewise.service.scheduling.jobs._queue_limits import QueuedSteps, waits_too_long
from statewise.service.scheduling.jobs._sequence_job import SequenceJob
from statewise.service.scheduling.jobs._sequence_request import SequenceRequest, SequenceResults
from statewise.service.scheduling.jobs._sequence_starter import SequenceStarter

__all__ = [
    "AbandonedJob",
    "EmittedChunk",
    "GenerationJob",
    "Job",
    "JobQueue",
    "JobSlice",
    "QueuedSteps",
    "SequenceJob",
    "SequenceRequest",
    "SequenceResults",
    "SequenceStarter",
    "waits_too_long",
]
