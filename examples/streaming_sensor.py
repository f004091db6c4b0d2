"""A sensor that reports sample by sample, and a forecast of the next one that remembers all before.

    python streaming_sensor.py [HOST:PORT] < samples.csv

A line of the input is one sample, numbers separated by commas. Whoever runs this again continues the same
session: it bears the sensor's name, so it stays open on the server, and its position tells how much it has
seen.
"""

import sys

import numpy as np

from statewise.client import Client


def main(target: str = "127.0.0.1:50051") -> None:
    """Prints a forecast for each sample, at once."""
    with Client(target) as client, client.session("gait", id="ankle-sensor") as session:
        print(f"going on at time step {session.position}", file=sys.stderr)
        for line in sys.stdin:
            sample = np.array(line.split(","), np.float32)  # [9]
            forecast = session.step(sample)  # [9], of the sample that comes next
            print(",".join(f"{value:.3f}" for value in forecast), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
