"""Loads settings from flags, environment and file: wrong ones are named, secrets are not shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from statewise.service import Settings, SettingsError


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "repository is not set: give --repository"),
        ({"repository": "r", "listen": "nowhere"}, "listen = 'nowhere': expected HOST:PORT"),
        ({"repository": "r", "store": "redis://"}, "store = 'redis://'"),
        ({"repository": "r", "sessions": 0}, "sessions = 0"),
        ({"repository": "r", "prefix_bytes": -1}, "prefix_bytes = -1: expected at least 0"),
        ({"repository": "r", "prefix_chunk": 7}, "prefix_chunk = 7: expected at least 8"),
        ({"repository": "r", "frobnicate": 1}, "frobnicate = 1: there is no such setting"),
        ({"repository": "r", "sesions": 1}, "sesions = 1: there is no such setting; is sessions meant?"),
        ({"repository": "r", "config": Path("nowhere.toml")}, "config = 'nowhere.toml': no such file"),
    ],
)
def test_settings_that_cannot_be_used_name_key_and_value(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as failure:
        Settings.load(**flags)
    assert str(failure.value).startswith(words)


@pytest.mark.parametrize("key", ["snapshot_key", "snapshot_kye", "Snapshot-Key"])
def test_a_secret_is_not_shown_when_it_cannot_be_used(tmp_path: Path, key: str) -> None:
    file = tmp_path / "statewise.toml"
    file.write_text(f'repository = "r"\n{key} = {["hunter2"]}\n')
    with pytest.raises(SettingsError, match=f"^{key}: ") as failure:
        Settings.load(config=file)
    assert "hunter2" not in str(failure.value)
    assert "hunter2" not in repr(Settings(repository=tmp_path, snapshot_key=SecretStr("hunter2" * 3)))


def test_the_key_of_snapshots_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("0123456789abcdef\n")
    assert Settings.load(repository=tmp_path, snapshot_key_file=file).signing_key() == b"0123456789abcdef"
    assert Settings.load(repository=tmp_path, snapshot_key="k" * 16).signing_key() == b"k" * 16
    with pytest.raises(SettingsError, match="expected one of them"):
        Settings.load(repository=tmp_path, snapshot_key_file=file, snapshot_key="k" * 16)
    with pytest.raises(SettingsError, match=r"^snapshot_key: expected at least 16 bytes of key; got 1$"):
        Settings.load(repository=tmp_path, snapshot_key="k")
    file.write_text("short\n")
    with pytest.raises(SettingsError, match=r"key': expected at least 16 bytes of key; got 5"):
        Settings.load(repository=tmp_path, snapshot_key_file=file)
    with pytest.raises(SettingsError, match=r"nowhere': No such file"):
        Settings.load(repository=tmp_path, snapshot_key_file=tmp_path / "nowhere")


def test_flags_go_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "statewise.toml"
    config.write_text('repository = "of the file"\nsessions = 1\ngrace_s = 1.0\nqueue_steps = 11\n')
    monkeypatch.setenv("STATEWISE_SESSIONS", "2")
    monkeypatch.setenv("STATEWISE_GRACE_S", "2")
    loaded = Settings.load(config=config, grace_s=3.0, listen=None)
    assert (loaded.queue_steps, loaded.sessions, loaded.grace_s) == (11, 2, 3.0)
    assert loaded.repository == Path("of the file")
    config.write_text("sessions = 'many'\nrepository = 'r'\n")
    monkeypatch.delenv("STATEWISE_SESSIONS")
    with pytest.raises(SettingsError, match="sessions = 'many'"):
        Settings.load(config=config)
    with pytest.raises(SettingsError, match="no such file"):
        Settings.load(config=tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sessions = 'many'", "sessions = 'many': expected a whole number"),
        ("sessions = 1.5", "sessions = 1.5: expected a whole number"),
        ("sessions = 0", "sessions = 0: expected more than 0"),
        ("grace_s = 'long'", "grace_s = 'long': expected a number"),
        ("traces_ratio = 2", "traces_ratio = 2: expected at most 1.0"),
        ("insecure = 'perhaps'", "insecure = 'perhaps': expected true or false"),
        ("log_level = 'loud'", "log_level = 'loud': expected 'debug', 'info', 'warning' or 'error'"),
        ("listen = 5", "listen = 5: expected text"),
        (
            "repository_pol_s = 5",
            "repository_pol_s = 5: there is no such setting; is repository_poll_s meant?",
        ),
    ],
)
def test_a_value_of_the_file_is_refused_in_plain_words_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    config = tmp_path / "statewise.toml"
    config.write_text(f"repository = 'r'\n# a comment\n{line}\n")
    with pytest.raises(SettingsError) as failure:
        Settings.load(config=config)
    assert str(failure.value) == f"{words} ({config}, line 3)"
    monkeypatch.setenv("STATEWISE_QUEUE_S", "soon")
    config.write_text("repository = 'r'\nqueue_s = 5\n")
    with pytest.raises(SettingsError) as failure:
        Settings.load(config=config)
    assert str(failure.value) == "queue_s = 'soon': expected a number"


def test_variables_that_are_no_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SESSIONS", "TARGET", "CLIENT_TOKEN", "PORT", "SERVICE_HOST", "PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(f"STATEWISE_{name}", "1")
    assert not Settings.misspelt_variables()
    monkeypatch.setenv("STATEWISE_SESIONS", "1")
    monkeypatch.setenv("STATEWISE_FROBNICATE", "1")
    assert Settings.misspelt_variables() == [
        "STATEWISE_FROBNICATE: there is no such setting",
        "STATEWISE_SESIONS: there is no such setting; is STATEWISE_SESSIONS meant?",
    ]
