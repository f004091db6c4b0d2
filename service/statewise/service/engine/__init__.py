"""Runs ONNX graphs: from inputs and states to outputs and new states. Never sessions, asyncio or gRPC."""

from statewise.service.engine._decode_loop import (
    NOTHING,
    Draw,
    Feedback,
    GraphFeedback,
    HostFeedback,
    RecallingEngine,
    load_engine,
    write_spec,
)
from statewise.service.engine._decode_profile import FeedbackTest, feedback_test
from statewise.service.engine._engine import Engine, EngineError, check_provider
from statewise.service.engine._engine_profile import Exactness, SelfTest, self_test
from statewise.service.engine._layout import Layout, Place
from statewise.service.engine._runner import RunResult, run_batch
from statewise.service.engine._sampling import Sampling, uniform_numbers

__all__ = [
    "NOTHING",
    "Draw",
    "Engine",
    "EngineError",
    "Exactness",
    "Feedback",
    "FeedbackTest",
    "GraphFeedback",
    "HostFeedback",
    "Layout",
    "Place",
    "RecallingEngine",
    "RunResult",
    "Sampling",
    "SelfTest",
    "check_provider",
    "feedback_test",
    "load_engine",
    "run_batch",
    "self_test",
    "uniform_numbers",
    "write_spec",
]
