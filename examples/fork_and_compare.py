"""What if? A session is forked, the two are fed differently, and their forecasts compared.

    python fork_and_compare.py [HOST:PORT]

Up to the middle of a walk both have seen the same, so they share one session. From there one goes on with
the walk, the other with a sensor that is stuck; the distance of their forecasts is what the fault does. A
fork costs a copy of the state, not a second run over what came before.
"""

import sys

import numpy as np

from statewise.client import Client

STEPS = 200


def walk() -> np.ndarray:
    """Nine channels of something periodic, [2 * STEPS, 9]."""
    time = np.arange(2 * STEPS)[:, None] / 64
    phases = np.linspace(0, np.pi, 9)
    return (np.sin(2 * np.pi * 1.8 * time + phases) * 300).astype(np.float32)


def main(target: str = "127.0.0.1:50051") -> None:
    """Prints how far the forecasts are apart, for the first steps after the fork."""
    samples = walk()
    with Client(target) as client, client.session("gait") as session:
        session.step(samples[:STEPS])
        before = session.snapshot()  # would open the session again, on any server with the same key
        with session.fork() as stuck:
            real = session.step(samples[STEPS:])  # [STEPS, 9]
            faulty = stuck.step(np.repeat(samples[STEPS - 1 : STEPS], STEPS, axis=0))
        distance = np.linalg.norm(real - faulty, axis=1)
        for step in (0, 1, 4, 16, 64):
            print(f"{step + 1:3} steps after: {distance[step]:9.3f}")
        with client.restore(before) as again:
            same = np.array_equal(again.step(samples[STEPS:]), real)
        print(f"from the snapshot, the same bits: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
