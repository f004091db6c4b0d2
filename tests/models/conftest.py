import numpy as np
import pytest

# Every cell and variant that the package has; the conformance tests run over all of them.
CELLS: dict[str, dict[str, object]] = {
    "rnn-tanh": {"cell": "rnn"},
    "rnn-sigmoid": {"cell": "rnn", "activation": "sigmoid"},
    "rnn-relu": {"cell": "rnn", "activation": "relu"},
    "lstm": {"cell": "lstm"},
    "lstm-sigmoid-candidate": {"cell": "lstm", "activation": "sigmoid"},
    "gru-reset-before": {"cell": "gru"},
    "gru-reset-after": {"cell": "gru", "reset_after": True},
    "gru-sigmoid-candidate": {"cell": "gru", "activation": "sigmoid"},
}


@pytest.fixture(params=CELLS.values(), ids=CELLS.keys())
def cell(request: pytest.FixtureRequest) -> dict[str, object]:
    """Fields of a NetworkSpec that choose a cell."""
    return dict(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240517)
