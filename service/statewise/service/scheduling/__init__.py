"""Decides which work runs together, and when. Never looks up models, and never gRPC."""

from statewise.service.scheduling._buckets import buckets_of_like_length
from statewise.service.scheduling._generation_job import Generation, Grown
from statewise.service.scheduling._job import LongWork
from statewise.service.scheduling._scheduler import Scheduler
from statewise.service.scheduling._sequence_job import Job

__all__ = ["Generation", "Grown", "Job", "LongWork", "Scheduler", "buckets_of_like_length"]
