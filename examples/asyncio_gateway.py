"""Connects devices that speak plain TCP: each connection is a session, each line a time step.

    python asyncio_gateway.py [HOST:PORT [LISTEN_PORT]]

Each connection awaits its own steps, one at a time, in simple code. The client sends steps of the same moment
in one message, so a thousand connections stay cheap. A device that sends an invalid line receives an error
and keeps its session.
"""

import asyncio
import json
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

from statewise.client import AsyncClient, InvalidInput


async def serve_device(client: AsyncClient, reader: StreamReader, writer: StreamWriter) -> None:
    """Answers JSON arrays [9] with JSON arrays [9], until the device closes the connection."""
    try:
        async with client.session("gait") as session:
            async for line in reader:
                try:
                    answer = (await session.step(json.loads(line))).tolist()
                except (ValueError, InvalidInput) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def main(target: str = "127.0.0.1:50051", port: str = "0") -> None:
    """Listens until interrupted; port 0 picks a free port."""
    async with AsyncClient(target) as client:
        server = await asyncio.start_server(
            lambda reader, writer: serve_device(client, reader, writer), "127.0.0.1", int(port), backlog=1024
        )
        async with server:
            print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
