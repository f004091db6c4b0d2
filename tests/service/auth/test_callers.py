"""Reads callers files: broken ones are refused or leave the callers as they were, and show no secret."""

from pathlib import Path

import pytest

from statewise.service import CallersError, Scope, ServiceError, add_token
from statewise.service.auth._callers import Callers, digest_of, read_callers


def test_a_file_that_cannot_be_read_leaves_the_callers_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "callers.toml"
    token = add_token(path, "ann", [Scope.PREDICT, Scope.SESSION])
    known = Callers(path)
    path.write_text("[[caller]]\nowner = 'ann'\n")
    assert not known.follow()
    assert "stay as they were" in caplog.text
    shown = f"Bearer {token}"
    assert known.identify(authorization=shown, certificate_names=[]).owner == "ann"
    path.unlink()
    assert not known.follow()
    add_token(path, "eve", [Scope.SESSION])
    assert known.follow()
    with pytest.raises(Exception, match="the token is not known"):
        known.identify(authorization=shown, certificate_names=[])


ENTRY = {"owner": '"ann"', "scopes": '["session"]', "token_sha256": f'"{"0" * 64}"'}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"owner": None}, r"caller\.1\.owner: Field required"),
        ({"owner": '""'}, r"caller\.1\.owner: .* at least 1"),
        ({"scopes": '["everything"]'}, r"caller\.1\.scopes\.1: .*'predict', 'session' or 'admin'"),
        ({"scopes": "[]"}, r"caller\.1\.scopes: .* at least 1"),
        ({"token_sha256": '"swt_secret"'}, r"caller\.1\.token_sha256: .*pattern"),
        ({"token_sha256": None}, r"caller\.1: .*either token_sha256 or certificate"),
        ({"certificate": '"ann"'}, r"caller\.1: .*either token_sha256 or certificate"),
        ({"token": '"swt_secret"'}, r"caller\.1\.token: Extra inputs"),
        ({"owner": '"unclosed'}, "Illegal character|Unterminated"),
    ],
)
def test_entries_that_cannot_be_used_are_named_and_no_secret_with_them(
    tmp_path: Path, changes: dict[str, str | None], words: str
) -> None:
    entry = {key: value for key, value in {**ENTRY, **changes}.items() if value is not None}
    path = tmp_path / "callers.toml"
    path.write_text("[[caller]]\n" + "".join(f"{key} = {value}\n" for key, value in entry.items()))
    with pytest.raises(CallersError, match=words) as refused:
        read_callers(path)
    assert str(path) in str(refused.value)
    assert "swt_secret" not in str(refused.value)


def test_the_whole_of_a_tokens_digest_counts(tmp_path: Path) -> None:
    path = tmp_path / "callers.toml"
    token = add_token(path, "ann", [Scope.SESSION])
    digest = digest_of(token)
    path.write_text(path.read_text().replace(digest, digest[:-1] + f"{int(digest[-1], 16) ^ 1:x}"))
    with pytest.raises(ServiceError, match="the token is not known"):
        Callers(path).identify(authorization=f"Bearer {token}", certificate_names=[])


def test_nobody_shares_a_token_and_a_file_without_callers_is_none(tmp_path: Path) -> None:
    path = tmp_path / "callers.toml"
    path.write_text(("[[caller]]\n" + "".join(f"{k} = {v}\n" for k, v in ENTRY.items())) * 2)
    with pytest.raises(CallersError, match="the same token"):
        read_callers(path)
    path.write_text("")
    with pytest.raises(CallersError, match="caller: Field required"):
        read_callers(path)
    before = "[[caller]]\nowner = 1\n"
    path.write_text(before)
    with pytest.raises(CallersError, match=r"callers\.toml: caller\.1"):
        add_token(path, "ann", [Scope.SESSION])
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["callers.toml"]


def test_a_callers_file_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(CallersError, match=r"nowhere\.toml: No such file or directory$") as refused:
        read_callers(tmp_path / "nowhere.toml")
    assert "Errno" not in str(refused.value)
