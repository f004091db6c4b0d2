"""Invents names: completes a prompt in several ways, and continues a session in several ways.

    python text_generation.py [HOST:PORT [PROMPT]]

One request generates all letters of a name; they are sampled inside the graph. The samples depend only on
seed and position, so the same seed always gives the same name.
"""

import sys

from statewise.client import Client


def main(target: str = "127.0.0.1:50051", prompt: str = "MA") -> None:
    """Prints names that begin with the prompt, then names that differ after three letters."""
    with Client(target) as client:
        conditions = client.model("names").vocabulary.conditions  # begin tokens by name
        for condition in conditions:
            for seed in range(3):
                texts = client.generate(
                    "names", prompt=prompt, condition=condition, steps=12, temperature=0.8, seed=seed
                )
                print(f"{condition} {seed}: {prompt}", end="")
                for text in texts:  # while the server generates them
                    print(text, end="", flush=True)
                print()

        with client.session("names") as session:
            session.step(next(iter(conditions.values())))
            stem = "".join(session.generate(steps=3, temperature=0.8, seed=1))
            for seed in range(3):
                with session.fork() as branch:
                    print(f"fork {seed}: {stem}" + "".join(branch.generate(steps=9, seed=seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
