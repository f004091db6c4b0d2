"""Names that nobody has: a prompt is finished in several ways, and a session thinks again from one point.

    python text_generation.py [HOST:PORT [PROMPT]]

The values come from one request, drawn inside the graph. What is drawn depends on seed and position alone, so
the same seed gives the same name, today and tomorrow.
"""

import sys

from statewise.client import Client


def main(target: str = "127.0.0.1:50051", prompt: str = "MA") -> None:
    """Prints names that begin with the prompt, then ones that part ways after three letters."""
    with Client(target) as client:
        conditions = client.model("names").vocabulary.conditions  # begin tokens by name
        for condition in conditions:
            for seed in range(3):
                texts = client.generate(
                    "names", prompt=prompt, condition=condition, steps=12, temperature=0.8, seed=seed
                )
                print(f"{condition} {seed}: {prompt}", end="")
                for text in texts:  # as they come
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
