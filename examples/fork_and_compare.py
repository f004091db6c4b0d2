"""Forks a session at a checkpoint, feeds the two copies differently, and compares their forecasts.

    python fork_and_compare.py [HOST:PORT]

Up to the middle of a walk one session reads the samples, and its state is kept under a name. The session
continues with the walk; a fork that begins at the name receives a stuck sensor. The distance of the forecasts
shows the effect of the fault. A fork costs one copy of the state, not a second run over the earlier samples.
"""

import sys

import numpy as np

from statewise.client import Client

STEPS = 200


def walk() -> np.ndarray:
    """Makes nine channels of a periodic signal, [2 * STEPS, 9]."""
    time = np.arange(2 * STEPS)[:, None] / 64
    phases = np.linspace(0, np.pi, 9)
    return (np.sin(2 * np.pi * 1.8 * time + phases) * 300).astype(np.float32)


def main(target: str = "127.0.0.1:50051") -> None:
    """Prints the distance of the forecasts at some steps after the fork."""
    samples = walk()
    with Client(target) as client, client.session("gait") as session:
        session.step(samples[:STEPS])
        session.checkpoint("before")
        before = session.snapshot()  # opens the session again, on any server with the same key
        real = session.step(samples[STEPS:])  # [STEPS, 9]
        with session.fork(at="before") as stuck:
            faulty = stuck.step(np.repeat(samples[STEPS - 1 : STEPS], STEPS, axis=0))
        distance = np.linalg.norm(real - faulty, axis=1)
        for step in (0, 1, 4, 16, 64):
            print(f"{step + 1:3} steps after: {distance[step]:9.3f}")
        session.rewind(to="before")
        same = np.array_equal(session.step(samples[STEPS:]), real)
        print(f"from the checkpoint, the same bits: {'yes' if same else 'no'}")
        with client.restore(before) as again:
            same = np.array_equal(again.step(samples[STEPS:]), real)
        print(f"from the snapshot, the same bits: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
