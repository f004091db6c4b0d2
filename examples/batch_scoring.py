"""Classifies a night's worth of recordings, some of them broken.

    python batch_scoring.py [HOST:PORT]

The recordings come from a generator, so they are never all in memory. Results come in the same order. The
result of a broken recording holds its error, and the run continues. To score files, use `statewise score`.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from statewise.client import Client, Sample


def recordings(count: int) -> Iterator[Sample]:
    """Utterances of 7 to 29 frames with 12 features each; every hundredth recording holds a NaN."""
    random = np.random.default_rng(1)
    for number in range(count):
        frames = random.normal(size=(random.integers(7, 30), 12)).astype(np.float32)
        if number % 100 == 99:
            frames[3] = np.nan
        yield Sample(f"utterance-{number}", frames)


def main(target: str = "127.0.0.1:50051") -> None:
    """Counts how often each speaker was recognised."""
    speakers: Counter[int] = Counter()
    with Client(target) as client:
        for result in client.score("vowels", recordings(1000), progress=True):
            if result.error is not None:
                print(f"{result.id}: {result.error}", file=sys.stderr)
            else:
                speakers[int(result.outputs.argmax())] += 1  # outputs: a probability for each speaker, [9]
    for speaker, count in sorted(speakers.items()):
        print(f"speaker {speaker}: {count}")


if __name__ == "__main__":
    main(*sys.argv[1:])
