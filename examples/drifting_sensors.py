"""Finds sensors whose readings drift, by the hidden states of their sessions alone.

    python drifting_sensors.py [HOST:PORT]

256 sensors walk, each at its own pace and height. On 16 of them one channel drifts within twelve seconds:
in one run it gains an offset, in another it falls behind the other channels by a quarter of a stride. Near
the end the states of all sessions are read as one matrix, several times, and averaged for each sensor.
Sensors are ranked by how far that is from the crowd's. For comparison they are ranked by mean and spread of
their readings, too.

An offset is easy to find. A channel that lags keeps its mean and its spread: it shows only in how the
channels move together, which the states remember. With the model of `make demo` the states find all 16 in
both runs, and 14 to 16 with other random numbers; the readings find the 16 offsets, and at most 2 of the
lags, as chance would.
"""

import sys

import numpy as np

from statewise.client import Client

SENSORS, DRIFTING = 256, 16  # those that drift come first
STEPS, RATE_HZ = 768, 64
WATCHED = 144  # last steps, in which states are read: some four strides
BETWEEN = 6  # steps from one reading of the states to the next


def walks(fault: str) -> np.ndarray:
    """Makes the readings of all sensors, [STEPS, SENSORS, 9]."""
    rng = np.random.default_rng(0)
    drift = np.zeros((STEPS, SENSORS, 9))
    drift[:, :DRIFTING, 4] = np.linspace(0, 1, STEPS)[:, None]
    strides = np.arange(STEPS)[:, None, None] / RATE_HZ * rng.uniform(1.6, 2.0, (SENSORS, 1))
    phases = rng.uniform(0, 2 * np.pi, (SENSORS, 1)) + np.linspace(0, np.pi, 9)
    heights = 300 * rng.uniform(0.8, 1.25, (SENSORS, 9))
    lag = drift / 4 if fault == "lag" else 0
    offset = 150 * drift if fault == "offset" else 0
    noise = rng.normal(0, 30, drift.shape)
    return (heights * np.sin(2 * np.pi * (strides + lag) + phases) + offset + noise).astype(np.float32)


def distances(features: np.ndarray) -> np.ndarray:
    """Measures how far each row of [N, F] is from the crowd, in standard deviations."""
    centre = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - centre), axis=0) + 1e-9
    return np.sqrt(np.mean(((features - centre) / spread) ** 2, axis=1))


def found(distance: np.ndarray) -> int:
    """Counts the drifting sensors among as many that are farthest from the crowd."""
    return int(np.sum(np.argsort(-distance)[:DRIFTING] < DRIFTING))


def main(target: str = "127.0.0.1:50051") -> None:
    """Prints for each fault how many sensors are found, and the five that are farthest from the crowd."""
    with Client(target) as client:
        for fault in ("offset", "lag"):
            readings = walks(fault)
            with client.sessions("gait", count=SENSORS) as group:
                group.step(readings[:-WATCHED].swapaxes(0, 1))  # [SENSORS, T, 9]
                states = []
                for begin in range(STEPS - WATCHED, STEPS, BETWEEN):
                    group.step(readings[begin : begin + BETWEEN].swapaxes(0, 1))
                    states.append(client.states("gait", group.ids).matrix)  # [SENSORS, S]
            by_state = distances(np.mean(states, axis=0))
            last = readings[-WATCHED:]
            by_reading = distances(np.concatenate([last.mean(axis=0), last.std(axis=0)], axis=1))
            print(f"{fault}: found by state {found(by_state)} of {DRIFTING}, by readings {found(by_reading)}")
            for sensor in np.argsort(-by_state)[:5]:
                truth = "drifts" if sensor < DRIFTING else "does not drift"
                print(f"  sensor {sensor:3}: {by_state[sensor]:.2f} standard deviations away, {truth}")


if __name__ == "__main__":
    main(*sys.argv[1:])
