"""Describes a network apart from its parameters: sizes, cell, directions, head, call shape.

It holds no training settings. A spec and its parameters rebuild the network exactly; `to_dict` and
`from_dict` carry a spec through JSON unchanged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

CellName = Literal["rnn", "lstm", "gru"]
HeadName = Literal["linear", "softmax", "sigmoid"]
CallShape = Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many", "encoder_decoder"]
ActivationName = Literal["tanh", "sigmoid", "relu"]

_GATES: dict[str, int] = {"rnn": 1, "lstm": 4, "gru": 3}
_MEMORIES: dict[str, tuple[str, ...]] = {"rnn": ("h",), "lstm": ("h", "c"), "gru": ("h",)}


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Sizes and kinds of a network.

    Attributes:
        input_size: Features of a time step; with an embedding, the number of tokens.
        output_size: Outputs of the head; 0 for no head, so that the outputs are the top layer's h.
        cell: Recurrent cell of every layer.
        hidden_size: Units of a layer, in each direction.
        layers: Stacked layers; layer l reads the outputs of layer l-1 at the same time step.
        bidirectional: Whether every layer also reads backwards. Such a network cannot be streamed.
        head: Activation of V h + c: linear (none), softmax or sigmoid.
        call_shape: How inputs and outputs relate in time. `many_to_one` and `one_to_one` read the
            head from the final state; `one_to_one` reads a single step from the initial state. An
            `encoder_decoder` runs its decoder from the encoder's final state.
        residual: Whether the first `output_size` input channels are added to the head's scores.
        embedding_size: Width of a token's vector; 0 for real-valued inputs.
        activation: Of the plain RNN; of the candidate gate in LSTM and GRU (tanh or sigmoid there).
        reset_after: GRU only: the reset gate acts after the matrix product (and has its own bias)
            instead of before it (Cho et al. 2014, arXiv:1406.1078; PyTorch uses `after`).
        learn_initial_state: Whether the memories before the first step, h_0 (and c_0), are parameters;
            otherwise they are zeros.
        encoder: The encoder of an `encoder_decoder`: same cell and layers, no head.
    """

    input_size: int
    output_size: int
    cell: CellName = "lstm"
    hidden_size: int = 64
    layers: int = 1
    bidirectional: bool = False
    head: HeadName = "linear"
    call_shape: CallShape = "many_to_many"
    residual: bool = False
    embedding_size: int = 0
    activation: ActivationName = "tanh"
    reset_after: bool = False
    learn_initial_state: bool = False
    encoder: NetworkSpec | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(NetworkSpec)
        for name in ("cell", "head", "call_shape", "activation"):
            allowed = get_args(hints[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("input_size", "hidden_size", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.output_size < 0 or self.embedding_size < 0:
            raise ValueError("output_size and embedding_size: expected 0 or more")
        if self.cell != "rnn" and self.activation == "relu":
            raise ValueError("activation: relu is for the rnn cell; lstm and gru take tanh or sigmoid")
        if self.residual and (self.embedding_size or self.final or self.output_size > self.input_size):
            raise ValueError(
                "residual: expected real inputs, an output at every step and output_size <= input_size"
            )
        self._check_encoder()

    def _check_encoder(self) -> None:
        if (self.encoder is not None) != (self.call_shape == "encoder_decoder"):
            raise ValueError("encoder: expected exactly with call_shape = encoder_decoder")
        if self.encoder is None:
            return
        if self.bidirectional:
            raise ValueError("bidirectional: a decoder runs forwards only; make the encoder bidirectional")
        if self.learn_initial_state:
            raise ValueError(
                "learn_initial_state: a decoder begins in its encoder's final state; let the encoder learn it"
            )
        if self.encoder.memory_size != self.memory_size or self.encoder.cell != self.cell:
            raise ValueError(
                f"encoder: expected a {self.cell} whose final state has {self.memory_size} numbers, "
                f"got {self.encoder.cell} with {self.encoder.memory_size}"
            )

    @property
    def final(self) -> bool:
        """Whether the head reads the final state only, giving one output a sequence."""
        return self.call_shape in ("many_to_one", "one_to_one")

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of a layer, in parameter order."""
        return ("forward", "reverse") if self.bidirectional else ("forward",)

    @property
    def gates(self) -> int:
        """The number of blocks of rows in W, R and b."""
        return _GATES[self.cell]

    @property
    def streamable(self) -> bool:
        """Whether the network can be run step by step from a state."""
        return not self.bidirectional and self.call_shape != "one_to_one"

    def state_parts(self) -> list[tuple[str, int, int]]:
        """Returns the parts of the state tensor [B, S].

        Returns:
            (name, offset, size) in order, such as ("layer0.h", 0, 64), ("layer0.c", 64, 64);
            empty for a network that cannot be streamed.
        """
        if not self.streamable:
            return []
        return [(name.replace(".forward", ""), offset, size) for name, offset, size in self.memory_parts()]

    @property
    def state_size(self) -> int:
        """S, the width of the state tensor; 0 for a network that cannot be streamed."""
        return self.memory_size if self.streamable else 0

    def memory_parts(self) -> list[tuple[str, int, int]]:
        """Lists (name, offset, size) of every memory of every layer and direction, in order."""
        names = [
            f"layer{layer}.{direction}.{memory}"
            for layer in range(self.layers)
            for direction in self.directions
            for memory in _MEMORIES[self.cell]
        ]
        return [(name, index * self.hidden_size, self.hidden_size) for index, name in enumerate(names)]

    @property
    def memory_size(self) -> int:
        """M, the width of all memories of one sequence."""
        return self.layers * len(self.directions) * len(_MEMORIES[self.cell]) * self.hidden_size

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the names and shapes of the parameters, in the order of the flat buffer.

        They do not depend on the number of time steps.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if self.encoder is not None:
            shapes |= {f"encoder.{name}": shape for name, shape in self.encoder.parameter_shapes().items()}
        if self.embedding_size:
            shapes["embedding.E"] = (self.input_size, self.embedding_size)
        width = self.embedding_size or self.input_size
        rows = self.gates * self.hidden_size
        for layer in range(self.layers):
            for direction in self.directions:
                prefix = f"layer{layer}.{direction}"
                shapes[f"{prefix}.W"] = (rows, width)
                shapes[f"{prefix}.R"] = (rows, self.hidden_size)
                shapes[f"{prefix}.b"] = (rows,)
                if self.cell == "gru" and self.reset_after:
                    shapes[f"{prefix}.bR"] = (self.hidden_size,)
            width = len(self.directions) * self.hidden_size
        if self.output_size:
            shapes["head.V"] = (self.output_size, width)
            shapes["head.c"] = (self.output_size,)
        if self.learn_initial_state:
            shapes |= {f"initial.{name}": (size,) for name, _, size in self.memory_parts()}
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSpec:
        """Returns the spec that `to_dict` described.

        Raises:
            ValueError: An unknown field, or values that do not fit together.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r} in a network spec")
        encoder = values.get("encoder")
        return cls(**{**values, "encoder": None if encoder is None else cls.from_dict(encoder)})
