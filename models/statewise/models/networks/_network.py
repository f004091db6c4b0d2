"""Runs networks forward and backward: embedding, recurrent layers, head.

A network never changes and keeps no sequence's state. States go in and come out as values, so running the
halves of a sequence one after the other equals running the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from statewise.models.base import Array, Floats, Workspace
from statewise.models.networks._dropout import Dropout
from statewise.models.networks._head import (
    activated,
    add_final_outputs,
    final_outputs,
    head_gradient,
    head_scores,
)
from statewise.models.networks._initial import initial_values
from statewise.models.networks._inputs import checked_inputs, embedding_gradient, input_columns
from statewise.models.networks._layers import LayersTape, backward_layers, forward_layers
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import NetworkSpec


@dataclass(frozen=True)
class NetworkTape:
    """What the forward pass leaves for the backward pass; valid until the workspace is used again."""

    inputs: Array  # [T, B, I], or tokens [T, B]
    head_input: Floats  # h in V h + c: [T, D*H, B] or [D*H, B]
    final_mask: Floats | None  # dropout of the final state, [D*H, B]
    begins: bool  # whether the pass began in the network's own initial state
    layers: LayersTape


class Network:
    """A recurrent network with its parameters.

    Attributes:
        spec: Sizes and kinds.
        parameters: Ordered mapping of names to arrays:
            `embedding.E` [K, E]; per layer l and direction d (forward, reverse) `layer{l}.{d}.W` [G*H, I],
            `.R` [G*H, H], `.b` [G*H], and `.bR` [H] for the reset-after GRU; `head.V` [O, D*H], `head.c` [O];
            learned initial memories `initial.layer{l}.{d}.h` [H] (and `.c`); an encoder's own below
            `encoder.`. Gates are stacked i, f, o, g (LSTM) and z, r, n (GRU).
    """

    def __init__(
        self, spec: NetworkSpec, parameters: Mapping[str, Floats], *, dtype: npt.DTypeLike | None = None
    ) -> None:
        """Builds a network from its spec and parameters.

        Args:
            spec: Sizes and kinds.
            parameters: An array for every name of `spec.parameter_shapes()`; copied, unless it is a
                `Parameters`, whose buffer is then shared and may be written by its owner.
            dtype: float32 or float64; that of the first parameter by default.

        Raises:
            ValueError: A name is missing or unknown, a shape differs, or the dtype is neither of these.
        """
        self.spec = spec
        shapes = spec.parameter_shapes()
        kind = np.dtype(next(iter(parameters.values())).dtype if dtype is None else dtype)
        if kind not in (np.float32, np.float64):
            raise ValueError(f"dtype: expected float32 or float64, got {kind}")
        if not (isinstance(parameters, Parameters) and parameters.flat.dtype == kind):
            parameters = Parameters.of(shapes, parameters, kind)
        self.parameters = Parameters(shapes, parameters.flat, writable=False)

    @classmethod
    def initialise(
        cls, spec: NetworkSpec, *, rng: np.random.Generator, dtype: npt.DTypeLike = np.float32
    ) -> Network:
        """Creates a network with fresh parameters: orthogonal R, Glorot W and V, forget bias 1."""
        return cls(spec, initial_values(spec, rng), dtype=dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parameters and of all arithmetic."""
        return self.parameters.flat.dtype

    @property
    def initial_state(self) -> Floats:
        """The memories before the first step, [M], laid out as `spec.memory_parts()`: learned, or zeros."""
        if not self.spec.learn_initial_state:
            return np.zeros(self.spec.memory_size, self.dtype)
        return np.concatenate([self.parameters[f"initial.{name}"] for name, _, _ in self.spec.memory_parts()])

    @cached_property
    def encoder(self) -> Network | None:
        """The encoder of an encoder-decoder, sharing this network's buffer; None for others."""
        if self.spec.encoder is None:
            return None
        return Network(self.spec.encoder, encoder_part(self.spec, self.parameters))

    def run(
        self, x: Array, lengths: npt.ArrayLike | None = None, state: Floats | None = None
    ) -> tuple[Floats, Floats | None]:
        """Runs the network, in normalised units.

        Args:
            x: [T, B, I], or tokens [T, B] for a network with an embedding. Contents past a row's length
                do not matter.
            lengths: [B], 1 to T each; None when every row has T steps.
            state: [B, S] from an earlier run; None for the initial state.

        Returns:
            The outputs, probabilities for softmax and sigmoid: [T, B, O], zero past each row's length, or
            [B, O] for many-to-one and one-to-one. And the state [B, S] after each row's last valid step;
            None for networks that cannot be streamed.

        Raises:
            ValueError: A shape, dtype, length or token that does not fit, naming expected and got.
        """
        if state is not None and not self.spec.streamable:
            raise ValueError("state: expected None, a bidirectional or one-to-one network keeps no state")
        scores, final, tape = self.forward(x, lengths, state)
        y = np.array(activated(self.spec, scores), order="C")
        if not self.spec.final and tape.layers.padding.lengths is not None:
            beyond = np.arange(y.shape[0])[:, None] >= tape.layers.padding.lengths
            y[beyond] = 0
        return y, np.ascontiguousarray(final) if self.spec.streamable else None

    def encode(self, x: Array, lengths: npt.ArrayLike | None = None) -> Floats:
        """Runs the encoder of an encoder-decoder; its final state is the decoder's initial state, [B, S].

        Raises:
            ValueError: This network has no encoder, or the inputs do not fit it.
        """
        if self.encoder is None:
            raise ValueError(f"encode: expected an encoder_decoder network, got {self.spec.call_shape}")
        _, final, _ = self.encoder.forward(x, lengths)
        return np.ascontiguousarray(final)

    def forward(
        self,
        x: Array,
        lengths: npt.ArrayLike | None = None,
        state: Floats | None = None,
        *,
        workspace: Workspace | None = None,
        dropout: Dropout | None = None,
    ) -> tuple[Floats, Floats, NetworkTape]:
        """Runs the network for training: scores, final memories, and the tape for `backward`.

        Args:
            x: As for `run`.
            lengths: As for `run`.
            state: [B, M], M being `spec.memory_size`; None for the initial state.
            workspace: Scratch memory to reuse; results are valid until it is used again.
            dropout: On every layer's outputs.

        Returns:
            Scores (the head before softmax or sigmoid) [T, B, O] or [B, O], the final memories [B, M], and
            the tape for `backward`.

        Raises:
            ValueError: As for `run`.
        """
        spec = self.spec
        work = workspace or Workspace()
        inputs, padding = checked_inputs(spec, x, lengths)
        B = inputs.shape[1]
        columns = input_columns(spec, self.parameters, inputs, padding, work)  # [T, I, B]
        if state is not None and np.shape(state) != (B, spec.memory_size):
            raise ValueError(f"state: expected shape {(B, spec.memory_size)}, got {np.shape(state)}")
        initial = np.empty((spec.memory_size, B), self.dtype)
        initial[...] = self.initial_state[:, None] if state is None else np.asarray(state).T
        top, final, layers = forward_layers(
            spec, self.parameters, columns, initial, padding, workspace=work, dropout=dropout
        )
        mask = None
        h = top
        if spec.final:
            h = final_outputs(spec, final)  # [D*H, B]
            if dropout is not None and dropout.rate > 0:
                mask = dropout.mask("dropout.final", h.shape, h.dtype, work)
                h = h * mask
        tape = NetworkTape(inputs, h, mask, state is None, layers)
        if not spec.output_size:
            return h.swapaxes(-1, -2), final.T, tape
        scores = head_scores(spec, self.parameters, h, columns)  # [T, O, B] or [O, B]
        return scores.swapaxes(-1, -2), final.T, tape

    def backward(
        self,
        tape: NetworkTape,
        d_scores: Floats | None,
        d_final: Floats | None = None,
        *,
        gradients: Parameters,
        workspace: Workspace | None = None,
        input_gradient: bool = False,
    ) -> tuple[Floats | None, Floats]:
        """Backpropagates through time.

        Args:
            tape: From `forward`.
            d_scores: Gradient with respect to the scores, in their shape; None for zero.
            d_final: Gradient with respect to the final memories, [B, M]; None for zero.
            gradients: Overwritten with the gradients of this network's parameters, except an encoder's. That
                of a learned initial state is zero where `forward` was given a state.
            workspace: As given to `forward`.
            input_gradient: Whether to compute the gradient with respect to real-valued inputs.

        Returns:
            The gradients with respect to the inputs [T, B, I] (None unless requested, and with an embedding)
            and to the initial memories [B, M].
        """
        spec = self.spec
        work = workspace or Workspace()
        d_memories = None if d_final is None else np.array(d_final.T, self.dtype)  # [M, B]
        d_outputs: Floats | None = None
        d_columns: Floats | None = None
        if d_scores is not None:
            # A copy, because the next lines write to d.
            d = np.array(d_scores.swapaxes(-1, -2), self.dtype, order="C")  # [T, O, B] or [O, B]
            if spec.final:
                d_memories = self._final_gradient(tape, d, d_memories, gradients)
            else:
                tape.layers.padding.zero(d)
                d_outputs = head_gradient(spec, self.parameters, tape.head_input, d, gradients)  # [T, D*H, B]
                d_columns = d if spec.residual else None
        elif spec.output_size:
            gradients["head.V"].fill(0)
            gradients["head.c"].fill(0)
        d_x, d_initial = backward_layers(
            spec,
            self.parameters,
            tape.layers,
            d_outputs,
            d_memories,
            gradients,
            workspace=work,
            input_gradient=input_gradient or spec.embedding_size > 0,
        )
        if spec.learn_initial_state:
            _initial_gradient(spec, d_initial if tape.begins else np.zeros_like(d_initial), gradients)
        if spec.embedding_size and d_x is not None:
            embedding_gradient(tape.inputs, d_x, gradients["embedding.E"])
            return None, d_initial.T
        if d_x is not None and d_columns is not None:
            d_x[:, : spec.output_size] += d_columns
        return (None if d_x is None or not input_gradient else d_x.swapaxes(1, 2)), d_initial.T

    def _final_gradient(
        self, tape: NetworkTape, d: Floats, d_memories: Floats | None, gradients: Parameters
    ) -> Floats:
        """The gradient with respect to the final memories, [M, B], of a head that reads the final outputs."""
        d_h = head_gradient(self.spec, self.parameters, tape.head_input, d, gradients)  # [D*H, B]
        if tape.final_mask is not None:
            d_h *= tape.final_mask
        if d_memories is None:
            d_memories = np.zeros((self.spec.memory_size, d.shape[-1]), self.dtype)
        add_final_outputs(self.spec, d_memories, d_h)
        return d_memories


def _initial_gradient(spec: NetworkSpec, d_initial: Floats, gradients: Parameters) -> None:
    """Sums the gradients of all rows' initial memories, [M, B]: the rows share one initial state."""
    total = d_initial.sum(axis=1)  # [M]
    for name, offset, size in spec.memory_parts():
        gradients[f"initial.{name}"][...] = total[offset : offset + size]


def encoder_part(spec: NetworkSpec, parameters: Parameters) -> Parameters:
    """Returns the encoder's part of an encoder-decoder's parameters or gradients, in the same buffer."""
    if spec.encoder is None:
        raise ValueError(f"expected an encoder_decoder network, got {spec.call_shape}")
    shapes = spec.encoder.parameter_shapes()
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    return Parameters(shapes, parameters.flat[:size])
