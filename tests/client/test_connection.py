"""How a client holds on to its servers: several addresses, silence, cancellation, deadlines."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.models.small import SmallModels

from statewise.client import AsyncClient, InvalidInput, Timeout, Unavailable
from statewise.service.testing import server_in_thread
from statewise.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    sequence_pb2,
    sequence_pb2_grpc,
    tensor_pb2,
)


@pytest.fixture
def x() -> Any:
    return np.random.default_rng(7).standard_normal((12, 3)).astype(np.float32)


class TestSeveralServers:
    @pytest.fixture
    def pair(self, repository: Any) -> Iterator[dict[str, ExitStack]]:
        """Two servers that know nothing of each other, by address; closing one's stack stops it."""
        with ExitStack() as both:
            servers = {}
            for _ in range(2):
                stack = both.enter_context(ExitStack())
                servers[stack.enter_context(server_in_thread(repository))] = stack
            yield servers

    def test_calls_go_to_all_of_them(self, connect: Any, pair: Any) -> None:
        client = connect("ipv4:" + ",".join(pair))
        began = {connect(address).server().started_at for address in pair}
        assert len(began) == 2
        seen = set()
        while seen != began:  # the channel may not have reached both at first
            seen.add(client.server().started_at)

    def test_a_session_moves_with_its_state_when_its_server_goes(
        self, connect: Any, pair: Any, small_models: SmallModels, x: Any
    ) -> None:
        client = connect("ipv4:" + ",".join(pair))
        session, group = client.session("steps"), client.sessions("steps", count=3)
        outputs = [session.step(x[:5])]
        grouped = [group.step(np.stack([x[:5]] * 3))]
        (holder,) = (address for address in pair if connect(address).list_sessions())
        pair[holder].close()
        outputs.append(session.step(x[5:]))
        grouped.append(group.step(np.stack([x[5:]] * 3)))
        expected = small_models.find("steps").run(x)[0]
        np.testing.assert_array_equal(np.concatenate(outputs), expected)
        for row in np.concatenate(grouped, axis=1):
            np.testing.assert_array_equal(row, expected)

    def test_predictions_go_on_with_those_that_are_left(self, connect: Any, pair: Any, x: Any) -> None:
        client = connect("ipv4:" + ",".join(pair))
        expected = client.predict("steps", x)
        next(iter(pair.values())).close()
        for _ in range(4):
            np.testing.assert_array_equal(client.predict("steps", x), expected)

    def test_a_name_is_resolved(self, connect: Any, address: str, x: Any) -> None:
        port = address.rpartition(":")[2]
        assert connect(f"dns:///localhost:{port}").predict("steps", x).shape == (12, 2)


class TestSilence:
    def test_a_peer_that_vanished_is_noticed(
        self, connect: Any, relay: Any, small_models: SmallModels, x: Any
    ) -> None:
        session = connect(relay.address, keepalive_s=0.2).session("steps")
        outputs = [session.step(x[0])]
        relay.hold_replies()
        before = relay.accepted
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(session.step, x[1])
            # Nothing else would make a client leave a connection that is merely silent.
            relay.wait_for_connection(before + 1)
            relay.cut()
            outputs.append(waiting.result())
        np.testing.assert_array_equal(np.stack(outputs), small_models.find("steps").run(x[:2])[0])

    def test_a_server_may_take_its_time_to_shake_hands(self, connect: Any, relay: Any) -> None:
        relay.hold_replies()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(connect(relay.address).models)
            assert relay.wait_for_connection(1)
            again = relay.wait_for_connection(2, timeout_s=0.3)
            relay.release_replies()
            assert waiting.result()
        assert not again

    @pytest.mark.parametrize("keepalive_s", [0, -1, float("nan"), float("inf")])
    def test_a_keepalive_that_is_none(self, connect: Any, keepalive_s: float) -> None:
        with pytest.raises(InvalidInput, match="expected a keepalive_s of more than 0 s"):
            connect("127.0.0.1:1", keepalive_s=keepalive_s)


class Endless(
    admin_pb2_grpc.AdminServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
    sequence_pb2_grpc.SequenceServiceServicer,
):
    """Begins calls and never ends them; tells when one began, when it was given up, and who called."""

    def __init__(self) -> None:
        self.began, self.given_up = threading.Event(), threading.Event()
        self.user_agent = ""

    def GetServer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.user_agent = dict(context.invocation_metadata())["user-agent"]
        return admin_pb2.GetServerResponse(limits=admin_pb2.Limits(message_bytes=1 << 20))

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        spec = model_pb2.TensorSpec(
            name="x", dtype=tensor_pb2.DataType.DATA_TYPE_FLOAT32, shape=[3], per_step=True
        )
        model = model_pb2.Model(
            name=request.name,
            version=1,
            inputs=[spec],
            outputs=[spec],
            streamable=True,
            generative=True,
            emitted=spec,
        )
        return model_pb2.GetModelResponse(model=model)

    def Predict(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        return self._never(context)

    def Generate(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        value = tensor_pb2.Tensor(dtype=tensor_pb2.DataType.DATA_TYPE_FLOAT32, shape=[1, 3], data=bytes(12))
        one = (1).to_bytes(4, "little")
        yield sequence_pb2.GenerateResponse(rows=bytes(4), lengths=one, outputs={"x": value})
        yield from self._never(context)

    def _never(self, context: Any) -> Iterator[Any]:
        context.add_callback(self.given_up.set)
        self.began.set()
        self.given_up.wait()
        yield from ()


@pytest.fixture
def endless() -> Iterator[tuple[str, Endless]]:
    servicer = Endless()
    server = grpc.server(ThreadPoolExecutor(4))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    sequence_pb2_grpc.add_SequenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None).wait()


class TestGivingUp:
    """Whoever leaves tells the server, which stops working for nobody."""

    async def test_a_prediction_that_is_cancelled(self, endless: Any) -> None:
        address, servicer = endless
        async with AsyncClient(address) as client:
            waiting = asyncio.create_task(client.predict("any", np.zeros((2, 3))))
            await asyncio.to_thread(servicer.began.wait)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(servicer.given_up.wait)

    def test_a_prediction_whose_time_is_over(self, connect: Any, endless: Any) -> None:
        address, servicer = endless
        with pytest.raises(Timeout, match="larger timeout"):
            connect(address).predict("any", np.zeros((2, 3)), timeout=0.3)
        servicer.given_up.wait()

    def test_a_generation_that_is_left(self, connect: Any, endless: Any) -> None:
        address, servicer = endless
        values = connect(address).generate("any", steps=9)
        assert next(values).shape == (3,)
        servicer.began.wait()
        values.close()
        servicer.given_up.wait()

    async def test_a_step_that_is_cancelled_is_not_applied(
        self, address: str, small_models: SmallModels
    ) -> None:
        long = np.random.default_rng(8).standard_normal((200_000, 3)).astype(np.float32)
        async with AsyncClient(address) as client, client.session("steps") as session:
            async with client.session("steps") as other:
                waiting = asyncio.create_task(session.step(long))
                await asyncio.sleep(0)
                await other.step(long[0])  # the server reads in order, so it has the long one too
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            output = await session.step(long[0])
            assert session.position == 1
        np.testing.assert_array_equal(output, small_models.find("steps").run(long[:1])[0][0])


@pytest.mark.parametrize("call", ["predict", "generate"])
def test_a_call_under_way_when_the_client_is_closed_says_so(connect: Any, endless: Any, call: str) -> None:
    address, servicer = endless
    client = connect(address)
    with ThreadPoolExecutor(1) as pool:
        if call == "predict":
            waiting = pool.submit(client.predict, "any", np.zeros((2, 3)))
        else:
            waiting = pool.submit(list, client.generate("any", steps=9))
        servicer.began.wait()
        client.close()
        with pytest.raises(Unavailable, match="the client is closed"):
            waiting.result()


def test_options_of_the_channel_are_passed_on(connect: Any, endless: Any) -> None:
    address, servicer = endless
    connect(address, channel_options={"grpc.primary_user_agent": "gauge/7"}).server()
    assert servicer.user_agent.startswith("gauge/7")
