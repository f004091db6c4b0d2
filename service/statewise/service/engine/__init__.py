"""Runs ONNX graphs: from inputs and states to outputs and new states. Knows no sessions, asyncio or gRPC."""

from statewise.service.engine._decode_loop import (
    NOTHING,
    DecodeLoop,
    Draw,
    GraphDecodeLoop,
    HostDecodeLoop,
    RecallingEngine,
    generator_spec,
    load_engine,
)
from statewise.service.engine._decode_profile import DecodeProfile, profile_decode_loop
from statewise.service.engine._engine import Engine, EngineError, Optimisation, check_provider
from statewise.service.engine._engine_profile import EngineProfile, profile_engine
from statewise.service.engine._layout import AxisLayout, GraphLayout
from statewise.service.engine._load_errors import why_not_loaded
from statewise.service.engine._runner import RunResult, run_batch
from statewise.service.engine._sampling import Sampling, uniform_numbers
from statewise.service.engine._time_budget import TimeBudget

__all__ = [
    "NOTHING",
    "AxisLayout",
    "DecodeLoop",
    "DecodeProfile",
    "Draw",
    "Engine",
    "EngineError",
    "EngineProfile",
    "GraphDecodeLoop",
    "GraphLayout",
    "HostDecodeLoop",
    "Optimisation",
    "RecallingEngine",
    "RunResult",
    "Sampling",
    "TimeBudget",
    "check_provider",
    "generator_spec",
    "load_engine",
    "profile_decode_loop",
    "profile_engine",
    "run_batch",
    "uniform_numbers",
    "why_not_loaded",
]
