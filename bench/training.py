"""Measures a training step in NumPy next to the same step in PyTorch: forward, backward, Adam.

    pip install torch==2.13.0
    OPENBLAS_CORETYPE=SkylakeX python bench/training.py [--rounds 30] [--threads 1] [--json FILE]

Both sides run the same layer (I = H), batch and number of threads, in turn within one process, so a noisy
moment affects both. On processors with AVX-512, the variable selects the same NumPy kernels as `statewise
train`; leave it out on other processors. Outputs and gradients are compared before anything is timed. Times
are medians; the result is the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from statewise.models import AdamW, Network, NetworkSpec, Parameters, Workspace, blas_threads

STEPS, BATCH = 50, 32
SIZES = (64, 128, 256)
CELLS = ("lstm", "gru")


def numpy_step(cell: str, size: int, x: Any, weight: Any) -> tuple[Network, Callable[[], Any], Parameters]:
    """Makes a network whose head passes h on, and a function for one training step with it."""
    spec = NetworkSpec.from_dict(
        {
            "input_size": size,
            "output_size": 0,
            "cell": cell,
            "hidden_size": size,
            "reset_after": cell == "gru",
        }
    )
    start = Network.initialise(spec, rng=np.random.default_rng(0))
    parameters = Parameters.of(spec.parameter_shapes(), start.parameters, np.float32)
    network = Network(spec, parameters)
    gradients = Parameters.empty(spec.parameter_shapes(), np.float32)
    work, rule = Workspace(), AdamW()
    state = rule.initial(parameters.flat)

    def step() -> Any:
        y, _, tape = network.forward(x, workspace=work)
        network.backward(tape, weight, gradients=gradients, workspace=work)
        rule.update(parameters.flat, gradients.flat, state, learning_rate=1e-6)
        return y

    return network, step, gradients


def products_step(gates: int, size: int) -> Callable[[], Any]:
    """Makes a function for the step's five matrix products alone, in NumPy: the bound that BLAS sets."""
    rng = np.random.default_rng(2)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    W, x, a = draw(gates * size, size), draw(STEPS, size, BATCH), draw(STEPS, gates * size, BATCH)
    rows, columns = draw(gates * size, STEPS * BATCH), draw(size, STEPS * BATCH)
    product, back = draw(gates * size, BATCH), draw(size, BATCH)

    def step() -> Any:
        np.matmul(W, x, out=a)  # W x of all steps
        for t in range(STEPS):
            np.matmul(W, x[t], out=product)  # R h
            np.matmul(W.T, a[t], out=back)  # R^T da
        rows @ columns.T  # dW
        return rows @ columns.T  # dR

    return step


def torch_step(torch: Any, network: Network, x: Any, weight: Any) -> tuple[Any, Callable[[], Any]]:
    """Makes PyTorch's module with the same weights, and a function for one training step with it."""
    spec, size = network.spec, network.spec.hidden_size
    order = {"lstm": [0, 1, 3, 2], "gru": [1, 0, 2]}[spec.cell]
    p = {name: np.split(network.parameters[f"layer0.forward.{name}"].copy(), spec.gates) for name in "WRb"}
    if spec.cell == "gru":
        for blocks in p.values():
            blocks[0] = -blocks[0]
    module = (torch.nn.LSTM if spec.cell == "lstm" else torch.nn.GRU)(size, size)
    with torch.no_grad():
        for name, theirs in (("W", "weight_ih_l0"), ("R", "weight_hh_l0"), ("b", "bias_ih_l0")):
            getattr(module, theirs).copy_(torch.from_numpy(np.concatenate([p[name][k] for k in order])))
        module.bias_hh_l0.zero_()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-6)
    inputs, by_output = torch.from_numpy(x), torch.from_numpy(weight)

    def step() -> Any:
        optimiser.zero_grad(set_to_none=True)
        y, _ = module(inputs)
        y.backward(by_output)
        optimiser.step()
        return y

    return module, step


def measure(torch: Any, cell: str, size: int, rounds: int) -> dict[str, Any]:
    """Compares the results, warms up, and times both in turn."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((STEPS, BATCH, size)).astype(np.float32)
    weight = rng.standard_normal((STEPS, BATCH, size)).astype(np.float32) / (STEPS * BATCH)
    network, ours, gradients = numpy_step(cell, size, x, weight)
    module, theirs = torch_step(torch, network, x, weight)
    output_difference = float(np.abs(ours() - theirs().detach().numpy()).max())
    db = sum(np.abs(block).sum() for block in np.split(gradients["layer0.forward.b"], network.spec.gates))
    gradient_difference = abs(float(module.bias_ih_l0.grad.abs().sum()) - float(db)) / float(db)
    if output_difference > 1e-5 or gradient_difference > 1e-4:
        raise SystemExit(f"{cell} {size}: results differ, {output_difference} and {gradient_difference}")
    products = products_step(network.spec.gates, size)
    times: dict[str, list[float]] = {"numpy": [], "torch": [], "products": []}
    for turn in range(rounds + 3):
        for name, step in (("numpy", ours), ("torch", theirs), ("products", products)):
            began = time.perf_counter()
            step()
            if turn >= 3:
                times[name].append(1e3 * (time.perf_counter() - began))
    medians = {name: statistics.median(values) for name, values in times.items()}
    quartiles = {name: statistics.quantiles(values, n=4)[::2] for name, values in times.items()}
    # Multiply-adds of W x, R h, and for each of them the two products of the backward pass; no dx.
    flops = 2 * STEPS * BATCH * network.spec.gates * size * size * 5
    return {
        "cell": cell,
        "hidden_size": size,
        "numpy_ms": medians["numpy"],
        "numpy_quartiles_ms": quartiles["numpy"],
        "torch_ms": medians["torch"],
        "torch_quartiles_ms": quartiles["torch"],
        "products_ms": medians["products"],
        "ratio": medians["numpy"] / medians["torch"],
        "numpy_gflops": flops / medians["numpy"] / 1e6,
        "torch_gflops": flops / medians["torch"] / 1e6,
    }


def main() -> None:
    """Measures every cell and size, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description="A training step in NumPy beside PyTorch's.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to which the numbers are also written")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("this benchmark compares with PyTorch: pip install torch==2.13.0")
    torch.set_num_threads(options.threads)
    print(
        f"T={STEPS} B={BATCH} I=H, float32, {options.threads} thread(s), "
        f"NumPy {np.__version__}, torch {torch.__version__}"
    )
    print("cell   H   NumPy ms  torch ms  ratio   products alone ms   GFLOP/s NumPy, torch")
    rows = []
    with blas_threads(options.threads):
        for cell in CELLS:
            for size in SIZES:
                row = measure(torch, cell, size, options.rounds)
                rows.append(row)
                print(
                    f"{cell:4} {size:4} {row['numpy_ms']:9.2f} {row['torch_ms']:9.2f} {row['ratio']:6.2f}"
                    f"   {row['products_ms']:16.2f}"
                    f"       {row['numpy_gflops']:6.0f} {row['torch_gflops']:6.0f}"
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
