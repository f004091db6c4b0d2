"""Calls three replicas behind HAProxy: all of them work, and clients go on when one dies or drains."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.docker.engine import eventually
from tests.docker.stack import REPLICAS, Container, Stack

from statewise.client import Client, Session
from statewise.v1.sequence_pb2 import PredictRequest
from statewise.v1.sequence_pb2_grpc import SequenceServiceStub
from statewise.wire import pack_uint32, to_tensor, unpack_uint32

STEPS = 4  # of every session, at each turn

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def replicas(everything: Stack) -> list[Container]:
    return list(everything.containers("server"))


@pytest.fixture
def balanced(everything: Stack) -> str:
    """HAProxy's address, once HAProxy sends work to all replicas."""
    eventually(
        lambda: ready_replicas(everything) == REPLICAS, within_s=30, what="all replicas in HAProxy's rotation"
    )
    return f"127.0.0.1:{everything.balanced_port}"


def haproxy_metrics(stack: Stack) -> str:
    (haproxy,) = stack.containers("haproxy")
    return haproxy.execute("wget", "-q", "-O", "-", "http://127.0.0.1:8404/metrics").stdout


def ready_replicas(stack: Stack) -> int:
    up = r'^haproxy_server_status\{proxy="replicas",.*state="UP"\} 1$'
    return len(re.findall(up, haproxy_metrics(stack), re.MULTILINE))


def sunspots(steps: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(0, 200, (steps, 1)).astype(np.float32)


def expected(replica: Container, samples: Array) -> Array:
    """One replica's answer to the whole sequence, [T, 1]; a session's steps have the same bits."""
    with Client(replica.address()) as client:
        return np.asarray(client.predict("sunspots", samples))


@dataclass(frozen=True)
class Held:
    """The place of a session, as its replica lists it."""

    replica: str
    epoch: int
    position: int


def held(replicas: Sequence[Container]) -> dict[str, Held]:
    """All sessions in the memory of these replicas, by id."""
    found = {}
    for replica in replicas:
        with Client(replica.address()) as client:
            for session in client.list_sessions(state="awake"):
                found[session.id] = Held(replica.name, session.epoch, session.position)
    return found


@contextmanager
def sessions(address: str, number: int) -> Iterator[list[Session]]:
    """Opens sessions, each with a client and so a stream of its own."""
    with ExitStack() as opened:
        clients = [opened.enter_context(Client(address)) for _ in range(number)]
        yield [opened.enter_context(client.session("sunspots")) for client in clients]


def step_all(sessions: Sequence[Session], samples: Array) -> list[Array]:
    """Each session's answers to these samples, which are sent one by one: [T, 1]."""
    return [np.stack([session.step(sample) for sample in samples]) for session in sessions]


def test_streams_and_scores_go_to_every_replica(
    everything: Stack, balanced: str, replicas: list[Container]
) -> None:
    samples = sunspots(STEPS)
    with sessions(balanced, 2 * REPLICAS) as streams:
        for answers in step_all(streams, samples):
            np.testing.assert_array_equal(answers, expected(replicas[0], samples))
        places = [at.replica for at in held(replicas).values()]
        assert sorted(places) == sorted([replica.name for replica in replicas] * 2)

        before = requests_of_replicas(everything)
        sequences = [sunspots(50 + row % 7, seed=row) for row in range(4000)]
        with Client(balanced) as client:
            scored = list(client.score("sunspots", sequences))
        assert len(scored) == len(sequences)
        for row in (0, 1999, 3999):
            np.testing.assert_array_equal(scored[row].outputs, expected(replicas[1], sequences[row]))
        after = requests_of_replicas(everything)
        assert sum(after[place] > before[place] for place in before) == REPLICAS


def test_a_replica_takes_the_snapshots_of_another(replicas: list[Container]) -> None:
    samples = sunspots(2 * STEPS)
    here, there = (replica.address() for replica in replicas[:2])
    with Client(here) as client, client.session("sunspots") as session:
        step_all([session], samples[:STEPS])
        snapshot = session.snapshot()
    with Client(there) as client, client.restore(snapshot) as session:
        (answers,) = step_all([session], samples[STEPS:])
    np.testing.assert_array_equal(answers, expected(replicas[2], samples)[STEPS:])


def test_a_killed_replica_comes_back_and_takes_nobody_with_it(
    balanced: str, replicas: list[Container], everything: Stack
) -> None:
    samples = sunspots(3 * STEPS)
    answers_to_all = expected(replicas[0], samples)
    victim = replicas[0]
    with sessions(balanced, 2 * REPLICAS) as streams:
        step_all(streams, samples[:STEPS])
        before = held(replicas)
        bystanders = {name: at for name, at in before.items() if at.replica != victim.name}
        assert 0 < len(bystanders) < len(before) == 2 * REPLICAS

        with health_events(victim) as told:
            victim.kill()
            for answers in step_all(streams, samples[STEPS : 2 * STEPS]):
                np.testing.assert_array_equal(answers, answers_to_all[STEPS : 2 * STEPS])
            with sessions(balanced, 1) as (new,):
                np.testing.assert_array_equal(new.step(samples[0]), answers_to_all[0])
            assert "health_status: healthy" in told
        assert victim.restarts == 1

        now = held(replicas)
        for name, then in bystanders.items():
            assert now[name] == Held(then.replica, then.epoch, 2 * STEPS)
        assert before.keys() <= now.keys()
        for answers in step_all(streams, samples[2 * STEPS :]):
            np.testing.assert_array_equal(answers, answers_to_all[2 * STEPS :])

        eventually(
            lambda: ready_replicas(everything) == REPLICAS, within_s=30, what="the replica in rotation again"
        )
        with sessions(balanced, 2 * REPLICAS):
            assert victim.name in {at.replica for at in held(replicas).values()}


def test_sigterm_lets_a_replica_finish_what_is_under_way(balanced: str, replicas: list[Container]) -> None:
    leaving, *others = replicas
    rows = [sunspots(1), *(sunspots(250_000, seed=row) for row in range(3))]
    samples = sunspots(2 * STEPS)
    with sessions(balanced, 2 * REPLICAS) as streams, grpc.insecure_channel(leaving.address()) as channel:
        step_all(streams, samples[:STEPS])
        assert leaving.name in {at.replica for at in held(replicas).values()}
        request = PredictRequest(
            model="sunspots",
            lengths=pack_uint32([len(row) for row in rows]),
            inputs={"x": to_tensor(np.concatenate(rows))},
        )
        calls = [SequenceServiceStub(channel).Predict(request) for _ in range(3)]
        for call in calls:
            assert unpack_uint32(next(call).rows).tolist() == [0]  # the long rows are still running

        stopping = subprocess.Popen(
            ["docker", "stop", leaving.name], env=leaving.engine.environment, stdout=subprocess.DEVNULL
        )
        answered = [list(call) for call in calls]
        answered_at = datetime.now(UTC)
        assert stopping.wait() == 0

        assert leaving.logged("stopping") < answered_at
        for replies in answered:
            assert not any(reply.errors for reply in replies)
            assert {row for reply in replies for row in unpack_uint32(reply.rows).tolist()} == {1, 2, 3}
        assert leaving.state["ExitCode"] == 0
        for answers in step_all(streams, samples[STEPS:]):
            np.testing.assert_array_equal(answers, expected(others[0], samples)[STEPS:])
    leaving.engine.docker("start", leaving.name)


def requests_of_replicas(stack: Stack) -> dict[str, int]:
    """How many streams and calls HAProxy has sent so far, for each of its places for a replica."""
    lines = re.findall(
        r'^haproxy_server_sessions_total\{proxy="replicas",server="(\w+)"\} (\d+)$',
        haproxy_metrics(stack),
        re.MULTILINE,
    )
    return {server: int(number) for server, number in lines}


@contextmanager
def health_events(container: Container) -> Iterator[Iterator[str]]:
    """Yields the engine's verdicts on a container's health as they come."""
    chosen = ["--filter", f"container={container.name}", "--filter", "event=health_status"]
    with subprocess.Popen(
        ["docker", "events", *chosen, "--format", "{{.Status}}"],
        env=container.engine.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as events:
        assert events.stdout is not None
        try:
            yield (line.rstrip() for line in events.stdout)
        finally:
            events.terminate()
