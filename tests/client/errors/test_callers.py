"""Makes calls that are not allowed: unknown tokens, missing scopes, others' sessions, used-up quotas."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.client.clients import Clients
from tests.client.errors.expectations import SAMPLE, raises

from statewise.client import (
    Client,
    InvalidSnapshot,
    LimitReached,
    PermissionDenied,
    SessionNotFound,
    Unauthenticated,
)
from statewise.service import Scope, add_token
from statewise.service.testing import server_in_thread


@dataclass(frozen=True)
class GuardedServer:
    """A server that knows `ann` and `bob`, who may do everything, and `scorer`, who may only predict."""

    address: str
    tokens: Mapping[str, str]
    clients: Clients

    def connect(self, owner: str | None) -> Client:
        """Makes a client with an owner's token; any other name is itself used as the token."""
        return self.clients.connect(self.address, token=self.tokens.get(owner or "", owner))


@pytest.fixture
def guarded(repository: Path, tmp_path: Path, clients: Clients) -> Iterator[GuardedServer]:
    callers = tmp_path / "callers.toml"
    both = [Scope.PREDICT, Scope.SESSION]
    tokens = {
        owner: add_token(callers, owner, scopes)
        for owner, scopes in {"ann": both, "bob": both, "scorer": [Scope.PREDICT]}.items()
    }
    with server_in_thread(repository, callers=callers, snapshot_key="k" * 16, owner_sessions=1) as address:
        yield GuardedServer(address, tokens, clients)


@pytest.mark.parametrize("token", [None, "made up"])
def test_nobody_knows_them(guarded: GuardedServer, token: str | None) -> None:
    with raises(Unauthenticated, "token", "pass token="):
        guarded.connect(token).predict("steps", SAMPLE[None])
    with raises(Unauthenticated, "token", "pass token="):
        guarded.connect(token).session("steps").step(SAMPLE)


def test_their_scope_does_not_reach(guarded: GuardedServer) -> None:
    scorer = guarded.connect("scorer")
    assert scorer.predict("steps", SAMPLE[None]).shape == (1, 2)
    with raises(PermissionDenied, "session", "ask the server's operator for the scope"):
        scorer.session("steps").step(SAMPLE)


def test_what_is_anothers_does_not_exist(guarded: GuardedServer) -> None:
    ann, bob = guarded.connect("ann"), guarded.connect("bob")
    with ann.session("steps", id="diary") as session:
        session.step(SAMPLE)
        with raises(SessionNotFound, "'diary'", "list_sessions() shows those that are open"):
            bob.resume("diary").step(SAMPLE)
        with raises(InvalidSnapshot, "owner", "of the same owner"):
            bob.restore(session.snapshot()).step(SAMPLE)
        assert [info.id for info in bob.list_sessions()] == []


def test_their_share_is_used_up(guarded: GuardedServer) -> None:
    ann, bob = guarded.connect("ann"), guarded.connect("bob")
    told = raises(LimitReached, "1 sessions of this owner", "close some; server().limits shows")
    with ann.session("steps"), bob.session("steps"), told:
        ann.session("steps").step(SAMPLE)
