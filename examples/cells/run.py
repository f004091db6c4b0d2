"""Exports cells from PyTorch, imports them, and streams them from a server in this process.

    python run.py [CELL...]

CELL is the name of a file beside this one; without any, all of them. Needs PyTorch and onnxscript.

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
import torch

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
def expected(cell: ModuleType, step: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """Runs the steps in PyTorch; returns the first output, or the first state where there is no other."""
    states = [state[None] for state in cell.INITIAL.values()]
    outputs = []
    for row in torch.from_numpy(x)[:, None]:
        results = step(row, *states)
        results = results if isinstance(results, tuple) else (results,)
        states = list(results[len(cell.OUTPUTS) :])
        outputs.append(results[0][0].numpy())
    return np.stack(outputs)


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
    """Streams a series through a session and its fork; says how the results compare."""
    name, half = cell.__name__, STEPS // 2
    x = series(cell.FEATURES)
    with client.session(name) as session:
        first = [first_output(session.step(sample)) for sample in x[:half]]  # a step a message
        with session.fork() as fork:
            second = first_output(session.step(x[half:]))  # all steps in one message
            again = first_output(fork.step(x[half:]))
    found = np.concatenate([first, second])
    reference = expected(cell, step, x)
    difference = np.abs(found - reference).max() / np.abs(reference).max()
    whole = first_output(client.predict(name, x))
    same = np.array_equal(again, second) and np.array_equal(found, whole)
    size = client.model(name).state_bytes
    return (
        f"state {size} bytes, {difference:.0e} from PyTorch after {STEPS} steps; "
        f"steps, chunk, fork and whole have the same bits: {'yes' if same else 'no'}"
    )


def first_output(outputs: object) -> np.ndarray:
    """Returns the outputs of a model, or the first of several."""
    return np.asarray(next(iter(outputs.values())) if isinstance(outputs, dict) else outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
