"""Runs the gateway of `bench/client.py` with tritonclient: each session awaits its own steps.

This program runs in Triton's environment and imports nothing of this project. It prints steps a second.
"""

import asyncio
import sys
import time

import numpy as np
from tritonclient.grpc import InferInput  # type: ignore[import-not-found]
from tritonclient.grpc.aio import InferenceServerClient  # type: ignore[import-not-found]


async def main(address: str, sessions: int, seconds: float) -> None:
    rows = np.random.default_rng(1).standard_normal((sessions, 1, 64)).astype(np.float32)
    async with InferenceServerClient(address) as client:

        async def step(session: int, *, start: bool = False) -> None:
            given = InferInput("x", [1, 64], "FP32")
            given.set_data_from_numpy(rows[session])
            reply = await client.infer("lstm64", [given], sequence_id=session + 1, sequence_start=start)
            assert reply.as_numpy("y").shape == (1, 64)

        await asyncio.gather(*(step(session, start=True) for session in range(sessions)))
        steps = 0
        begun = time.perf_counter()
        end = begun + seconds

        async def drive(session: int) -> None:
            nonlocal steps
            while time.perf_counter() < end:
                await step(session)
                steps += 1

        await asyncio.gather(*(drive(session) for session in range(sessions)))
        print(steps / (time.perf_counter() - begun))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
