"""Draws initial parameters: orthogonal R, Glorot W and V, forget bias 1, other biases and initial state 0.

Recipes do not vary this. The same spec and generator always give the same numbers.
"""

import numpy as np

from statewise.models.base import Floats
from statewise.models.networks._spec import NetworkSpec


def orthogonal(size: int, rng: np.random.Generator) -> Floats:
    """Draws an orthogonal matrix [size, size], float64 (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    # QR prefers some signs; undoing that makes the draw uniform over the orthogonal group.
    return np.asarray(q * np.sign(np.diag(r)))


def glorot(rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """Draws uniformly with variance  2 / (rows + columns), float64 [rows, columns] (Glorot & Bengio 2010)."""
    limit = np.sqrt(6.0 / (rows + columns))
    return rng.uniform(-limit, limit, (rows, columns))


def initial_values(spec: NetworkSpec, rng: np.random.Generator) -> dict[str, Floats]:
    """Draws the initial values of every parameter of a spec, float64.

    Each gate's block of W and R is drawn as a separate matrix. The forget gate's bias is 1, so that a fresh
    LSTM keeps its memory (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    values: dict[str, Floats] = {}
    H = spec.hidden_size
    if spec.encoder is not None:
        values = {f"encoder.{name}": value for name, value in initial_values(spec.encoder, rng).items()}
    for name, shape in spec.parameter_shapes().items():
        if name in values:
            continue
        match name.rsplit(".", 1)[-1]:
            case "W":
                values[name] = np.concatenate([glorot(H, shape[1], rng) for _ in range(shape[0] // H)])
            case "R":
                values[name] = np.concatenate([orthogonal(H, rng) for _ in range(shape[0] // H)])
            case "V":
                values[name] = glorot(shape[0], shape[1], rng)
            case "E":
                values[name] = rng.standard_normal(shape) / np.sqrt(shape[1])
            case _:
                values[name] = np.zeros(shape)
                if spec.cell == "lstm" and name.endswith(".b"):
                    values[name][H : 2 * H] = 1.0
    return values
