"""Relays connections to a server so slowly that the server's replies wait in its kernel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 2048
_BUFFER_BYTES = 4096


@asynccontextmanager
async def narrow_relay(address: str) -> AsyncIterator[str]:
    """Relays to HOST:PORT; gives the relay's own address.

    What clients send passes at once. What the server sends passes in small chunks through a small receive
    buffer, so that most of a large reply waits in the server's send buffer.
    """
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    pumps: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        narrow.setblocking(False)
        await loop.sock_connect(narrow, (host, int(port)))
        below, above = await asyncio.open_connection(sock=narrow, limit=_CHUNK_BYTES)
        pumps.add(asyncio.create_task(_pump(reader, above)))
        pumps.add(asyncio.create_task(_pump(below, writer)))

    relay = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    finally:
        relay.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes bytes on until either side ends the connection."""
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
