"""Defines one step of each cell as its paper writes it: one gate a line, nothing done for speed.

It runs no whole sequence and computes no gradient. The fast cells beside this module, the exported graphs
and docs/training.md are compared with these functions. Shapes use I (inputs), H (hidden units) and
B (sequences); each column of x, h and c belongs to one sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from statewise.models.base import Floats

__all__ = ["ACTIVATIONS", "gru_step", "lstm_step", "relu", "rnn_step", "sigma"]

Activation: TypeAlias = Callable[[Floats], Floats]


def sigma(a: Floats) -> Floats:
    """Computes the logistic function; its values lie between 0 and 1."""
    return np.asarray(1 / (1 + np.exp(-a)))


def relu(a: Floats) -> Floats:
    """Computes the rectifier; its values are 0 or more."""
    return np.asarray(np.maximum(a, 0))


ACTIVATIONS: dict[str, Activation] = {"tanh": np.tanh, "sigmoid": sigma, "relu": relu}


def rnn_step(
    x: Floats, h: Floats, *, W: Floats, R: Floats, b: Floats, activation: Activation = np.tanh
) -> Floats:
    """Computes one step of the plain recurrent cell (Elman 1990, "Finding structure in time").

    Args:
        x: Input, [I, B].
        h: Hidden state before the step, [H, B].
        W: Input weights, [H, I].
        R: Recurrent weights, [H, H].
        b: Bias, [H].
        activation: tanh, `sigma` or `relu`.

    Returns:
        The hidden state after the step, [H, B].
    """
    return activation(W @ x + R @ h + b[:, None])  # [H, B]


def lstm_step(
    x: Floats,
    h: Floats,
    c: Floats,
    *,
    W: Floats,
    R: Floats,
    b: Floats,
    candidate: Activation = np.tanh,
) -> tuple[Floats, Floats]:
    """Computes one step of the LSTM (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    Args:
        x: Input, [I, B].
        h: Hidden state before the step, [H, B].
        c: Cell state before the step, [H, B].
        W: Input weights of the gates i, f, o, g, one above the other, [4H, I].
        R: Recurrent weights in the same order, [4H, H].
        b: Biases in the same order, [4H].
        candidate: Activation of the gate g, tanh or `sigma`.

    Returns:
        Hidden and cell state after the step, [H, B] each.
    """
    W_i, W_f, W_o, W_g = np.split(W, 4)  # [H, I] each
    R_i, R_f, R_o, R_g = np.split(R, 4)  # [H, H] each
    b_i, b_f, b_o, b_g = np.split(b[:, None], 4)  # [H, 1] each

    i = sigma(W_i @ x + R_i @ h + b_i)  # input gate         [H, B]
    f = sigma(W_f @ x + R_f @ h + b_f)  # forget gate        [H, B]
    o = sigma(W_o @ x + R_o @ h + b_o)  # output gate        [H, B]
    g = candidate(W_g @ x + R_g @ h + b_g)  # candidate      [H, B]
    c = f * c + i * g  # cell state                          [H, B]
    h = o * np.tanh(c)  # hidden state                       [H, B]
    return h, c


def gru_step(
    x: Floats,
    h: Floats,
    *,
    W: Floats,
    R: Floats,
    b: Floats,
    bR: Floats | None = None,
    candidate: Activation = np.tanh,
) -> Floats:
    """Computes one step of the gated recurrent unit (Cho et al. 2014, arXiv:1406.1078).

    The paper's version 3 resets h before the product with R_n. Version 1 resets the product; PyTorch and
    cuDNN do so too. z = 1 replaces the state by the candidate; ONNX and PyTorch write z = 0 for that.

    Args:
        x: Input, [I, B].
        h: Hidden state before the step, [H, B].
        W: Input weights of the gates z, r, n, one above the other, [3H, I].
        R: Recurrent weights in the same order, [3H, H].
        b: Biases in the same order, [3H].
        bR: Recurrent bias of the candidate, [H], given exactly if the reset acts after the product.
        candidate: Activation of the gate n, tanh or `sigma`.

    Returns:
        The hidden state after the step, [H, B].
    """
    W_z, W_r, W_n = np.split(W, 3)  # [H, I] each
    R_z, R_r, R_n = np.split(R, 3)  # [H, H] each
    b_z, b_r, b_n = np.split(b[:, None], 3)  # [H, 1] each

    z = sigma(W_z @ x + R_z @ h + b_z)  # update gate                                [H, B]
    r = sigma(W_r @ x + R_r @ h + b_r)  # reset gate                                 [H, B]
    if bR is None:
        n = candidate(W_n @ x + R_n @ (r * h) + b_n)  # candidate, reset before      [H, B]
    else:
        n = candidate(W_n @ x + r * (R_n @ h + bR[:, None]) + b_n)  # reset after    [H, B]
    return (1 - z) * h + z * n  # hidden state                                       [H, B]
