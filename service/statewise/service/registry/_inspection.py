"""Defines what a test of a version finds out, and how a child process reports it: as JSON, a line a message.

Values only. The child is `_inspector.py`; `_inspector_pool.py` starts it and asks.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from statewise.service.engine import DecodeProfile, EngineProfile, Optimisation
from statewise.wire import Exactness


@dataclass(frozen=True, slots=True)
class VersionProfiles:
    """Profiles of a version's graphs; None: the version has no such graph.

    Attributes:
        read: Profile of the read graph.
        encoder: Profile of the encoder.
        decode: Profile of the decode loop.
    """

    read: EngineProfile
    encoder: EngineProfile | None
    decode: DecodeProfile | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A version that was loaded and tested without harm.

    Attributes:
        digest: Digest of the files that were tested.
        optimisation: How far its graphs may be rewritten.
        profiles: What its graphs may do.
    """

    digest: str
    optimisation: Optimisation
    profiles: VersionProfiles

    def to_json(self) -> str:
        """Writes the inspection as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        raw = json.loads(text)
        profiles = raw["profiles"]
        encoder, decode = profiles["encoder"], profiles["decode"]
        return cls(
            raw["digest"],
            Optimisation(raw["optimisation"]),
            VersionProfiles(
                _engine_profile(profiles["read"]),
                None if encoder is None else _engine_profile(encoder),
                None if decode is None else DecodeProfile(**decode),
            ),
        )


@dataclass(frozen=True, slots=True)
class InspectionRequest:
    """What a child process is asked to load and test.

    Attributes:
        name: Name of the model.
        version: Its version.
        folder: The version's folder.
        optimisation: How far onnxruntime may rewrite the graphs.
        intra_op_threads: Threads within one run.
        provider: What graphs run on.
        test_s: Seconds that measurements may take.
    """

    name: str
    version: int
    folder: Path
    optimisation: Optimisation
    intra_op_threads: int
    provider: str
    test_s: float

    def to_json(self) -> str:
        """Writes the request as one line."""
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            **{**raw, "folder": Path(raw["folder"]), "optimisation": Optimisation(raw["optimisation"])}
        )


def _engine_profile(raw: dict[str, Any]) -> EngineProfile:
    return EngineProfile(**{**raw, "exactness": Exactness(raw["exactness"])})
