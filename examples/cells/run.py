"""Exports cells from PyTorch, imports them, and streams them from a server in this process.

    python run.py [CELL...]

CELL is the name of a file beside this one; without any, all of them. Needs PyTorch and onnxscript
(`pip install torch==2.13.0 onnxscript`).

The files hold one step each. `torch.onnx` writes it as a graph. `import_onnx` finds the states, puts the loop
over the steps inside the graph, and compares it with the file; `verify_package` measures the class. Weights
are random: what counts is that the server computes what PyTorch computes, from the same state.
"""

import logging
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

try:
    import onnxscript  # noqa: F401  # torch.onnx needs it
    import torch
except ModuleNotFoundError as error:
    sys.exit(f"run.py finds no {error.name}: pip install torch==2.13.0 onnxscript")

from statewise.client import Client
from statewise.export import import_onnx, verify_package
from statewise.service.testing import server_in_thread

STEPS = 200
CELLS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.name != "run.py")


def series(features: int) -> np.ndarray:
    """Makes waves with noise, [STEPS, features]."""
    time = np.arange(STEPS)[:, None] / 20
    noise = np.random.default_rng(1).standard_normal((STEPS, features))
    return (np.sin(time + np.arange(features)) + 0.3 * noise).astype(np.float32)


def export(cell: ModuleType, step: torch.nn.Module, file: Path) -> None:
    """Writes one step as an ONNX graph whose batch is of free size."""
    states = [state.expand(2, *state.shape).clone() for state in cell.INITIAL.values()]
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step,
            (torch.zeros(2, cell.FEATURES), *states),
            input_names=["x", *cell.INITIAL],
            output_names=[*cell.OUTPUTS, *(f"{name}_out" for name in cell.INITIAL)],
            dynamic_shapes=tuple({0: batch} for _ in range(1 + len(states))),
            dynamo=True,
            verbose=False,
        )
    program.save(file)


@torch.no_grad()
def expected(
    cell: ModuleType, step: torch.nn.Module, x: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Runs the steps in PyTorch: the first output (or state, if there is no other), and the last states."""
    states = [state[None] for state in cell.INITIAL.values()]
    outputs = []
    for row in torch.from_numpy(x)[:, None]:
        results = step(row, *states)
        results = results if isinstance(results, tuple) else (results,)
        states = list(results[len(cell.OUTPUTS) :])
        outputs.append(results[0][0].numpy())
    return np.stack(outputs), {
        name: state[0].numpy() for name, state in zip(cell.INITIAL, states, strict=True)
    }


def main(*names: str) -> None:
    """Imports the cells into a repository, serves it, and prints a line for each."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else a line for each missing package
    logging.getLogger("statewise").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        steps, classes = {}, {}
        for name in names or CELLS:
            torch.manual_seed(0)
            cell = import_module(name)
            steps[name] = cell.Step().eval()
            export(cell, steps[name], Path(folder) / f"{name}.onnx")
            initial = {state: value.numpy() for state, value in cell.INITIAL.items()}
            package = import_onnx(Path(folder) / f"{name}.onnx", Path(folder) / "repository", initial=initial)
            classes[name] = verify_package(package).exactness
        with server_in_thread(Path(folder) / "repository") as address, Client(address) as client:
            for name, step in steps.items():
                print(f"{name}: class {classes[name]}, {stream(client, import_module(name), step)}")


def stream(client: Client, cell: ModuleType, step: torch.nn.Module) -> str:
    """Streams a series through a session, its fork, and a session that begins in its state; compares them."""
    name, half = cell.__name__, STEPS // 2
    x = series(cell.FEATURES)
    outputs, states = expected(cell, step, x)
    with client.session(name) as session:
        begins = all(
            np.array_equal(flat, cell.INITIAL[part].ravel()) for part, flat in session.state().items()
        )
        first = [first_output(session.step(sample)) for sample in x[:half]]  # a step a message
        halfway = session.state()  # by the names that the states have in the graph
        with session.fork() as fork, client.session(name, state=halfway, position=half) as other:
            rest = [
                first_output(one.step(x[half:])) for one in (session, fork, other)
            ]  # all steps in one message
        after = session.state()
        session.set_state(halfway, position=half)
        rest.append(first_output(session.step(x[half:])))
    found = np.concatenate([np.stack(first), rest[0]])
    same = all(np.array_equal(one, rest[0]) for one in rest)
    same = same and np.array_equal(found, first_output(client.predict(name, x)))
    errors = [difference(found, outputs), *(difference(after[part], states[part].ravel()) for part in states)]
    return (
        f"state {client.model(name).state_bytes} bytes, begins in INITIAL: {'yes' if begins else 'no'}, "
        f"differs from PyTorch by {errors[0]:.0e} (its state by {max(errors[1:]):.0e}) after {STEPS} steps, "
        f"the same bits in every way: {'yes' if same else 'no'}"
    )


def difference(found: np.ndarray, reference: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest reference."""
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def first_output(outputs: object) -> np.ndarray:
    """Returns the outputs of a model, or the first of several."""
    return np.asarray(next(iter(outputs.values())) if isinstance(outputs, dict) else outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
