"""Small untrained models that generate, in the graph and from outside; the training side is the oracle."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from statewise.export import export_checkpoint
from statewise.models import (
    Checkpoint,
    Network,
    NetworkSpec,
    Normalisation,
    generate_tokens,
    uniform_numbers,
)
from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import METADATA_KEY, from_tensor, pack_uint32, pack_uint64, unpack_uint32, unpack_uint64

LETTERS = ["<end>", "a", "b", "c", "d", "e", "f", "<x>", "<y>"]
WORDS = {"separator": "", "case": "lower", "unknown": None, "begin": None, "end": 0, "pad": None}
SOUNDS = ["<end>", "AH", "L", "OW", "K", "S", "T", "<begin>", "<spare>"]
READ = ["<end>", "p", "q", "r", "s", "t"]
END = 0


def _network(seed: int, **fields: Any) -> Network:
    """Far enough from its first values that it does not say the same at every step."""
    random = np.random.default_rng(seed)
    spec = NetworkSpec(**{"hidden_size": 11, **fields})
    fresh = Network.initialise(spec, rng=random)
    values = {
        name: (value + 0.6 * random.standard_normal(value.shape)).astype(np.float32)
        for name, value in fresh.parameters.items()
    }
    return Network(spec, values)


def _writer(*, ends: bool = True, **fields: Any) -> Checkpoint:
    shape = {"input_size": 9, "output_size": 7, "embedding_size": 4, "head": "softmax"}
    network = _network(3, **shape, call_shape="one_to_many", **fields)
    if not ends:
        values = {name: np.array(value) for name, value in network.parameters.items()}
        values["head.c"][END] = -50
        network = Network(network.spec, values)
    return Checkpoint(
        network=network,
        vocabulary={**WORDS, "tokens": LETTERS, "conditions": {"<x>": 7, "<y>": 8}},
    )


def _forecaster(**fields: Any) -> Checkpoint:
    mean, scale = np.array([1, -2, 0.5], np.float32), np.array([2, 0.5, 1], np.float32)
    return Checkpoint(
        network=_network(4, input_size=3, output_size=3, **fields),
        normalisation=Normalisation(input_mean=mean, input_scale=scale, output_mean=mean, output_scale=scale),
    )


def _transducer() -> Checkpoint:
    encoder = NetworkSpec(
        input_size=6, output_size=0, cell="gru", hidden_size=6, bidirectional=True, embedding_size=3
    )
    shape = {"input_size": 9, "output_size": 7, "embedding_size": 4, "head": "softmax", "cell": "gru"}
    source = {**WORDS, "tokens": READ, "conditions": {}}
    target = {**WORDS, "tokens": SOUNDS, "separator": " ", "case": "", "begin": 7, "conditions": {}}
    return Checkpoint(
        network=_network(5, **shape, hidden_size=12, call_shape="encoder_decoder", encoder=encoder),
        vocabulary={"source": source, "target": target},
    )


CHECKPOINTS = {
    "letters": _writer(layers=2),
    "chatter": _writer(ends=False),
    "wave": _forecaster(),
    "speech": _transducer(),
    "drift": _forecaster(residual=True),
    "plain": Checkpoint(network=_network(6, input_size=5, output_size=3)),
}


def _without_graph(package: Path) -> None:
    """The same model, to be fed back from outside."""
    (package / "generate.onnx").unlink()
    model = onnx.load(package / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            spec = json.loads(entry.value)
            spec["generate"]["graph"] = False
            entry.value = json.dumps(spec)
    onnx.save(model, package / "model.onnx")


@pytest.fixture(scope="session")
def generative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: `letters`, `chatter` (never ends), `wave` and `speech` generate in the graph, `…_outside`
    are the same without one, `drift` is residual, `plain` does not generate.
    """
    root = tmp_path_factory.mktemp("generative")
    for name, checkpoint in CHECKPOINTS.items():
        export_checkpoint(checkpoint, root, name=name)
        if name in ("letters", "chatter", "wave", "speech"):
            _without_graph(export_checkpoint(checkpoint, root, name=f"{name}_outside"))
    return root


@pytest.fixture
def checkpoint() -> Any:
    """Gives the checkpoint of a model by name."""
    return lambda name: CHECKPOINTS[name.removesuffix("_outside")]


@pytest.fixture
async def address(generative: Path) -> AsyncIterator[str]:
    """A real server of them."""
    async with running_server(generative) as address:
        yield address


@dataclass
class Settings:
    """How rows draw, as the contract has it and as the oracle takes it."""

    temperature: Sequence[float] = (1.0,)
    top_k: Sequence[int] = ()
    seed: Sequence[int] = (0,)

    @classmethod
    def varied(cls, rows: int) -> "Settings":
        """Rows that all differ."""
        random = np.random.default_rng(rows)
        return cls(
            temperature=random.choice([0, 0.5, 1, 2], rows).tolist(),
            top_k=random.choice([1, 3, 7, 50], rows).tolist(),
            seed=random.integers(0, 2**63, rows).tolist(),
        )

    @property
    def message(self) -> pb.Sampling:
        return pb.Sampling(temperature=self.temperature, top_k=self.top_k, seed=self.seed)

    @classmethod
    def long(cls, oracle: "Oracle", prompt: Sequence[int], steps: int) -> "Settings":
        """Of one row that does not end before so many steps."""
        tries = (cls(seed=[seed]) for seed in range(1_000))
        return next(one for one in tries if END not in oracle.tokens(prompt, steps, one, 0))

    def row(self, row: int) -> tuple[float, int, int]:
        """Temperature, top_k (0: all) and seed."""
        one = [column[row if len(column) > 1 else 0] for column in (self.temperature, self.seed)]
        return one[0], (list(self.top_k) * 2 or [0, 0])[min(row, max(len(self.top_k) - 1, 0))], one[1]


class Oracle:
    """A network that is fed its own tokens by the training side."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def after(self, prompt: Sequence[int], state: Any = None) -> tuple[Any, Any]:
        """State and last output after some tokens."""
        y, after = self.network.run(np.array(prompt, np.int32)[:, None], None, state)
        return after, y[-1]

    def tokens(
        self,
        prompt: Sequence[int],
        steps: int,
        settings: Settings,
        row: int,
        *,
        position: int | None = None,
        state: Any = None,
    ) -> list[int]:
        """What is said after a prompt; `position` is where it ends, by default its length."""
        temperature, top_k, seed = settings.row(row)
        after, last = self.after(prompt, state)
        numbers = uniform_numbers(seed, len(prompt) if position is None else position, steps)
        said = generate_tokens(
            self.network, after, last, numbers[:, None], temperature=temperature, top_k=top_k, stop=END
        )
        return [int(token) for token in said.tokens[:, 0] if token >= 0]


@pytest.fixture
def oracle(checkpoint: Any) -> Any:
    """Gives the oracle of a model by name."""
    return lambda name: Oracle(checkpoint(name).network)


@dataclass
class Said:
    """A generation put together again from its pieces."""

    values: dict[int, list[Any]]
    text: dict[int, str]
    errors: dict[int, str]
    positions: dict[int, int]
    pieces: int = 0

    @classmethod
    def nothing(cls) -> "Said":
        return cls({}, {}, {}, {})

    def add(self, piece: Any) -> None:
        """Takes a piece of either kind."""
        self.pieces += 1
        self.errors.update((error.row, error.reason) for error in piece.errors)
        rows = unpack_uint32(piece.rows).tolist()
        if not rows:
            return
        lengths = unpack_uint32(piece.lengths)
        (values,) = (from_tensor(tensor) for tensor in piece.outputs.values())
        assert len(values) == lengths.sum()
        for row, own in zip(rows, np.split(values, np.cumsum(lengths)[:-1]), strict=True):
            self.values.setdefault(row, []).extend(own.tolist())
        for row, words in zip(rows, piece.text.rows, strict=bool(piece.text.rows)):
            self.text[row] = self.text.get(row, "") + words
        if isinstance(piece, pb.GenerateSessionsResponse):
            self.positions.update(zip(rows, unpack_uint64(piece.positions).tolist(), strict=True))


async def generate(caller: Any, model: str, *, rows: int, steps: Any, **fields: Any) -> Said:
    """Everything that Generate says."""
    said = Said.nothing()
    settings: Settings = fields.pop("settings", Settings())
    request = pb.GenerateRequest(
        model=model, rows=rows, steps=pack_uint32(np.atleast_1d(steps)), sampling=settings.message, **fields
    )
    done = False
    async for piece in caller.sequences.Generate(request):
        assert not done
        said.add(piece)
        done = piece.done
    assert done
    return said


def sessions_request(
    sessions: Sequence[tuple[int, int]], steps: Any, settings: Settings
) -> pb.GenerateSessionsRequest:
    """Of sessions given as (handle, start position)."""
    return pb.GenerateSessionsRequest(
        handles=pack_uint64([handle for handle, _ in sessions]),
        positions=pack_uint64([position for _, position in sessions]),
        steps=pack_uint32(np.atleast_1d(steps)),
        sampling=settings.message,
    )


async def generate_sessions(
    caller: Any, sessions: Sequence[tuple[int, int]], steps: Any, settings: Settings
) -> Said:
    """Everything that sessions say on the stream."""
    said = Said.nothing()
    number = await caller.send(generate=sessions_request(sessions, steps, settings))
    while True:
        reply = await caller.receive()
        assert reply.request_id == number
        assert reply.WhichOneof("result") == "generate", reply
        said.add(reply.generate)
        if reply.generate.done:
            return said


@dataclass
class Asking:
    """The helpers above, for tests: modules of tests cannot be imported."""

    Settings: Any
    Said: Any
    generate: Any
    generate_sessions: Any
    sessions_request: Any


@pytest.fixture(scope="session")
def asking() -> Asking:
    """How to ask."""
    return Asking(Settings, Said, generate, generate_sessions, sessions_request)
