"""Serves a bare grpc.aio echo, which measures the cost of transport alone."""

import asyncio
from typing import Any

import grpc


async def _echo(_: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
    while True:
        message = await context.read()
        if not isinstance(message, bytes):
            return
        await context.write(message)


async def main() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers = {"Echo": grpc.stream_stream_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
