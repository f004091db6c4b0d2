"""Asks a server to generate, joins the pieces of its answer, and computes the answer by the training side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.helpers.arrays import Floats
from tests.helpers.caller import Caller
from tests.helpers.models.generative import END, checkpoint_of

from statewise.models import Network, generate_tokens, uniform_numbers
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint32, pack_uint64, unpack_uint32, unpack_uint64

Steps = int | Sequence[int] | npt.NDArray[np.integer[Any]]
"""A number for all rows, or one a row."""


@dataclass
class SamplingColumns:
    """Sampling settings by row, or one value for all rows; read by the server and by the oracle."""

    temperature: Sequence[float] = (1.0,)
    top_k: Sequence[int] = ()
    seed: Sequence[int] = (0,)

    @classmethod
    def varied(cls, rows: int) -> "SamplingColumns":
        """Rows that all differ."""
        random = np.random.default_rng(rows)
        return cls(
            temperature=random.choice([0, 0.5, 1, 2], rows).tolist(),
            top_k=random.choice([1, 3, 7, 50], rows).tolist(),
            seed=random.integers(0, 2**63, rows).tolist(),
        )

    @classmethod
    def long(cls, oracle: "TokenOracle", prompt: Sequence[int], steps: int) -> "SamplingColumns":
        """One row with a seed that lets it run for `steps` without an end token."""
        tries = (cls(seed=[seed]) for seed in range(1_000))
        return next(one for one in tries if END not in oracle.tokens(prompt, steps, one, 0))

    @property
    def message(self) -> pb.Sampling:
        """The same in the contract's words."""
        return pb.Sampling(temperature=self.temperature, top_k=self.top_k, seed=self.seed)

    def row(self, row: int) -> tuple[float, int, int]:
        """Temperature, top_k (0: all) and seed."""
        temperature, top_k, seed = (
            column[min(row, len(column) - 1)] for column in (self.temperature, self.top_k or [0], self.seed)
        )
        return temperature, int(top_k), int(seed)


class TokenOracle:
    """A network that the training side feeds its own tokens."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def after(self, prompt: Sequence[int], state: Floats | None = None) -> tuple[Floats | None, Floats]:
        """State and last output after some tokens."""
        y, after = self.network.run(np.array(prompt, np.int32)[:, None], None, state)
        return after, y[-1]

    def tokens(
        self,
        prompt: Sequence[int],
        steps: int,
        settings: SamplingColumns,
        row: int,
        *,
        position: int | None = None,
        state: Floats | None = None,
    ) -> list[int]:
        """The tokens that follow a prompt; `position` is where the prompt ends, by default its length."""
        temperature, top_k, seed = settings.row(row)
        after, last = self.after(prompt, state)
        assert after is not None
        numbers = uniform_numbers(seed, len(prompt) if position is None else position, steps)
        said = generate_tokens(
            self.network, after, last, numbers[:, None], temperature=temperature, top_k=top_k, stop=END
        )
        return [int(token) for token in said.tokens[:, 0] if token >= 0]


def oracle_of(model: str) -> TokenOracle:
    """The oracle of a model of the repository that generates."""
    return TokenOracle(checkpoint_of(model).network)


Piece = pb.PredictResponse | pb.GenerateResponse | pb.GenerateSessionsResponse


@dataclass
class Generated:
    """The rows of a generation, joined from its pieces."""

    values: dict[int, list[Any]] = field(default_factory=dict)
    text: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        """Appends a piece to its rows."""
        self.errors.update((error.row, error.reason) for error in piece.errors)
        rows = unpack_uint32(piece.rows).tolist()
        if not rows:
            return
        if isinstance(piece, pb.GenerateSessionsResponse):
            self.positions.update(zip(rows, unpack_uint64(piece.positions).tolist(), strict=True))
        lengths = unpack_uint32(piece.lengths)
        if not lengths.any() and not piece.outputs:  # with a store, the durable positions come last
            return
        (values,) = (from_tensor(tensor) for tensor in piece.outputs.values())
        assert len(values) == lengths.sum()
        for row, own in zip(rows, np.split(values, np.cumsum(lengths)[:-1]), strict=True):
            self.values.setdefault(row, []).extend(own.tolist())
        for row, words in zip(rows, piece.text.rows, strict=bool(piece.text.rows)):
            self.text[row] = self.text.get(row, "") + words


async def generate(
    caller: Caller,
    model: str,
    *,
    rows: int,
    steps: Steps,
    settings: SamplingColumns | None = None,
    **fields: Any,
) -> Generated:
    """Calls Generate; further keywords are fields of its request."""
    said = Generated()
    sampling = (settings or SamplingColumns()).message
    request = pb.GenerateRequest(
        model=model, rows=rows, steps=pack_uint32(np.atleast_1d(steps)), sampling=sampling, **fields
    )
    done = False
    async for piece in caller.sequences.Generate(request):
        assert not done
        said.add(piece)
        done = piece.done
    assert done
    return said


def sessions_request(
    sessions: Sequence[tuple[int, int]], steps: Steps, settings: SamplingColumns
) -> pb.GenerateSessionsRequest:
    """A request to sessions given as (handle, start position)."""
    return pb.GenerateSessionsRequest(
        handles=pack_uint64([handle for handle, _ in sessions]),
        positions=pack_uint64([position for _, position in sessions]),
        steps=pack_uint32(np.atleast_1d(steps)),
        sampling=settings.message,
    )


async def generate_sessions(
    caller: Caller, sessions: Sequence[tuple[int, int]], steps: Steps, settings: SamplingColumns
) -> Generated:
    """Generates with sessions, given as (handle, start position), on the caller's stream."""
    said = Generated()
    number = await caller.send(generate=sessions_request(sessions, steps, settings))
    while True:
        reply = await caller.receive()
        assert reply.request_id == number
        assert reply.WhichOneof("result") == "generate", reply
        said.add(reply.generate)
        if reply.generate.done:
            return said
