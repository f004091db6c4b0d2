"""Finds the pronunciation of words: an encoder reads the letters, a decoder generates the sounds.

    python encoder_decoder.py [HOST:PORT [WORD]...]

Shows a whole batch with `predict`, one word sound by sound with `generate`, and several pronunciations of it
from a session whose initial state is the encoded word.
"""

import sys

from statewise.client import Client


def main(target: str = "127.0.0.1:50051", *words: str) -> None:
    """Prints the pronunciation of each word, then variants for the first word."""
    words = words or ("hello", "recurrent", "memory")
    with Client(target) as client:
        for word, sounds in zip(words, client.predict("g2p", list(words)), strict=True):
            print(f"{word}: {sounds}")

        print("sound by sound:", end="")
        for sound in client.generate("g2p", condition=words[0], temperature=0):
            print(f" {sound.strip()}", end="", flush=True)
        print()

        with client.session("g2p", condition=words[0]) as session:
            ways = set()
            for seed in range(8):
                ways.add("".join(session.generate(temperature=0.7, top_k=3, seed=seed)))
                session.rewind()
        print(f"ways to say it: {len(ways)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
