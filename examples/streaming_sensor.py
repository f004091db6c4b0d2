"""Streams a sensor's samples, and prints for each a forecast of the next sample.

    python streaming_sensor.py [HOST:PORT] < samples.csv

Each input line is one sample, numbers separated by commas. The session has the sensor's name, so it stays
open on the server. If you run the program again, it continues the session; the session's position is the
number of samples so far.
"""

import sys

import numpy as np

from statewise.client import Client


def main(target: str = "127.0.0.1:50051") -> None:
    """Prints a forecast for each sample before it reads the next."""
    with Client(target) as client, client.session("gait", id="ankle-sensor") as session:
        print(f"continuing at time step {session.position}", file=sys.stderr)
        if sys.stdin.isatty():
            print("type a sample a line: nine numbers, separated by commas; Ctrl-D ends", file=sys.stderr)
        for line in sys.stdin:
            sample = np.array(line.split(","), np.float32)  # [9]
            forecast = session.step(sample)  # [9], for the next sample
            print(",".join(f"{value:.3f}" for value in forecast), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
