"""Checks `statewise token`, and a server that requires its tokens."""

from pathlib import Path

import pytest
from tests.cli.command import listening, pipe, started, statewise

from statewise.client import Client, PermissionDenied, Unauthenticated


def test_a_token_admits_its_owner_and_is_stored_nowhere(repository: Path, tmp_path: Path) -> None:
    callers = tmp_path / "callers.toml"
    made = statewise("token", "ann", "--callers", callers)
    assert (made.code, made.err) == (0, "ann has predict and session; the token is shown only once\n")
    token = made.out.strip()
    as_json = statewise("token", "root", "--callers", callers, "--scope", "admin", "--json").json
    assert (as_json["owner"], as_json["scopes"]) == ("root", ["admin"])
    assert token not in callers.read_text()

    serve = ("serve", "--repository", repository, "--listen", "127.0.0.1:0", "--callers", callers)
    with started(*serve) as server:
        address = listening(server)
        with Client(address) as nobody, pytest.raises(Unauthenticated, match="expected metadata"):
            nobody.models()
        with Client(address, token=token) as ann, ann.session("gait", id="a"):
            assert [one.owner for one in ann.list_sessions()] == ["ann"]
            with Client(address, token=as_json["token"]) as root:
                assert [one.id for one in root.list_sessions()] == ["a"]
                with pytest.raises(PermissionDenied, match="needs the scope session; 'root' has admin"):
                    root.session("gait")
        server.terminate()
        assert server.wait() == 0
        assert token not in pipe(server.stderr).read()


def test_a_file_that_is_no_callers_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("listen = '127.0.0.1:0'\n")
    failed = statewise("token", "ann", "--callers", file)
    assert failed.complaint == f"{file}: listen: Extra inputs are not permitted"
    assert file.read_text() == "listen = '127.0.0.1:0'\n"
    assert statewise("token", "ann", "--callers", file, "--scope", "everything").code == 2


def test_other_addresses_than_loopback_need_insecure(repository: Path) -> None:
    refused = statewise("serve", "--repository", repository, "--listen", "0.0.0.0:0")
    assert "say --insecure" in refused.complaint
