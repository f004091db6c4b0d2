"""Runs a stack of recurrent layers forward and backward: depth, both directions, dropout between layers.

It knows no embedding and no head. Layer l at step t reads layer l-1 at step t and itself at step t-1. A
bidirectional layer stacks the outputs of both directions, forward first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.models.base import Floats, Workspace
from statewise.models.cells import Cell, make_cell
from statewise.models.networks._dropout import Dropout
from statewise.models.networks._padding import Padding
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import NetworkSpec


@dataclass(frozen=True)
class LayersTape:
    """What the forward pass of a stack leaves for its backward pass."""

    padding: Padding
    cells: list[list[Any]]  # tapes by layer and direction
    masks: list[Floats | None]  # dropout on the outputs of each layer, [T, D*H, B]


def layer_cell(spec: NetworkSpec) -> Cell:
    """Returns the cell of a spec's layers."""
    return make_cell(spec.cell, activation=spec.activation, reset_after=spec.reset_after)


def forward_layers(
    spec: NetworkSpec,
    parameters: Parameters,
    x: Floats,
    initial: Floats,
    padding: Padding,
    *,
    workspace: Workspace,
    dropout: Dropout | None = None,
) -> tuple[Floats, Floats, LayersTape]:
    """Runs every layer over a batch.

    Args:
        spec: Spec of the network.
        parameters: Parameters of the network.
        x: [T, I, B], zero past each row's end.
        initial: [M, B], laid out as `spec.memory_parts()`.
        padding: Padding of this batch.
        workspace: Scratch memory; the results live in it.
        dropout: None outside training.

    Returns:
        The top layer's outputs [T, D*H, B], zero past each row's end; the final memories [M, B]; the tape.
    """
    cell = layer_cell(spec)
    H, memories = spec.hidden_size, len(cell.memories)
    final = np.empty_like(initial)
    tapes: list[list[Any]] = []
    masks: list[Floats | None] = []
    start = 0
    for layer in range(spec.layers):
        outputs, layer_tapes = [], []
        for direction in spec.directions:
            name = f"layer{layer}.{direction}"
            given = tuple(initial[start + m * H : start + (m + 1) * H] for m in range(memories))
            steps, tape = cell.forward(
                parameters.part(name),
                padding.reverse(x) if direction == "reverse" else x,
                given,
                workspace.scope(name),
            )
            for memory in steps:
                final[start : start + H] = padding.final(memory)
                start += H
            h = steps[0][1:]
            padding.zero(h)
            outputs.append(padding.reverse(h) if direction == "reverse" else h)
            layer_tapes.append(tape)
        x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)
        mask = None
        if dropout is not None and dropout.rate > 0:
            mask = dropout.mask(f"dropout{layer}", x.shape, x.dtype, workspace)
            x = x * mask
        tapes.append(layer_tapes)
        masks.append(mask)
    return x, final, LayersTape(padding, tapes, masks)


def backward_layers(
    spec: NetworkSpec,
    parameters: Parameters,
    tape: LayersTape,
    d_outputs: Floats | None,
    d_final: Floats | None,
    gradients: Parameters,
    *,
    workspace: Workspace,
    input_gradient: bool,
) -> tuple[Floats | None, Floats]:
    """Backpropagates through every layer.

    Args:
        spec: Spec of the network.
        parameters: Parameters of the network.
        tape: From `forward_layers`.
        d_outputs: Gradient with respect to the top layer's outputs, [T, D*H, B], zero past each row's end;
            None for zero.
        d_final: Gradient with respect to the final memories, [M, B]; None for zero.
        gradients: Overwritten with the gradients of the layers' parameters.
        workspace: As given to the forward pass.
        input_gradient: Whether to compute the gradient with respect to x.

    Returns:
        The gradients with respect to x [T, I, B] (or None) and to the initial memories [M, B].
    """
    cell = layer_cell(spec)
    width = len(cell.memories) * spec.hidden_size * len(spec.directions)
    d_initial: list[Floats] = []
    dy = d_outputs
    for layer in reversed(range(spec.layers)):
        mask = tape.masks[layer]
        if dy is not None and mask is not None:
            dy = dy * mask
        at = slice(layer * width, (layer + 1) * width)
        d_x: Floats | None = None
        d_layer: list[Floats] = []
        for index, direction in enumerate(spec.directions):
            name = f"layer{layer}.{direction}"
            by_x, by_initial = cell.backward(
                parameters.part(name),
                tape.cells[layer][index],
                _upstream(spec, index, dy, None if d_final is None else d_final[at], tape.padding),
                gradients.part(name),
                workspace.scope(name),
                input_gradient=input_gradient or layer > 0,
            )
            if by_x is not None and direction == "reverse":
                by_x = tape.padding.reverse(by_x)
            d_x = by_x if d_x is None or by_x is None else d_x + by_x
            d_layer += by_initial
        dy = d_x
        d_initial = d_layer + d_initial
    return dy, np.concatenate(d_initial)


def _upstream(
    spec: NetworkSpec, direction: int, dy: Floats | None, d_final: Floats | None, padding: Padding
) -> tuple[Floats | None, ...]:
    """Returns the upstream gradients of one layer's cell in one direction.

    Args:
        spec: Spec of the network.
        direction: Index into `spec.directions`.
        dy: Gradient with respect to the layer's outputs, [T, D*H, B]; None for zero.
        d_final: Gradient with respect to the layer's final memories, [D * memories * H, B]; None for zero.
        padding: Padding of the batch.

    Returns:
        The gradient with respect to each memory, [T, H, B], in the order in which the cell reads the steps;
        None for zero.
    """
    H, memories = spec.hidden_size, len(layer_cell(spec).memories)
    by_h = None if dy is None else dy[:, direction * H : (direction + 1) * H]
    if by_h is not None and spec.directions[direction] == "reverse":
        by_h = padding.reverse(by_h)
    upstream: list[Floats | None] = [by_h, *[None] * (memories - 1)]
    if d_final is not None:
        for m in range(memories):
            start = (direction * memories + m) * H
            upstream[m] = _with_final(upstream[m], d_final[start : start + H], padding)
    return tuple(upstream)


def _with_final(by_steps: Floats | None, by_final: Floats, padding: Padding) -> Floats | None:
    """Gradients with respect to a memory at all steps, [T, H, B], plus that of its final value, [H, B]."""
    if not by_final.any():
        return by_steps
    H, B = by_final.shape
    total = np.zeros((padding.steps, H, B), by_final.dtype) if by_steps is None else by_steps.copy()
    padding.add_final(total, by_final)
    return total
