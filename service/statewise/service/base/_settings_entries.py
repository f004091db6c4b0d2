"""Reads settings from a TOML file, and words what is wrong with an entry: its value, its place, its key.

Values of secrets are never shown.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

_Settings = TypeVar("_Settings", bound=BaseSettings)

PREFIX = "STATEWISE_"
_SECRETS = ["snapshot_key", "store_password"]
_OTHER_VARIABLES = ("STATEWISE_TARGET", "STATEWISE_CLIENT_")
# Kubernetes sets these for a Service that is called statewise.
_OF_KUBERNETES = re.compile(
    r"STATEWISE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)"
)

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_type": "text",
}
"""What is expected, by pydantic's type of an error."""


class SettingsError(ValueError):
    """A setting is invalid. The message names its key and value."""


def with_file(cls: type[_Settings], config: Path | None) -> type[_Settings]:
    """Returns settings that read a file, too; None: as they are. Raises SettingsError: there is no file."""
    if config is None:
        return cls
    if not config.is_file():
        raise SettingsError(f"config = {str(config)!r}: no such file")

    class SettingsWithFile(cls):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config)

    return SettingsWithFile


def explain(error: Mapping[str, Any], known: Collection[str], config: Path | None) -> str:
    """Returns one line that names key, value, what is expected, and the place in the file that sets the key.

    Args:
        error: Pydantic's description.
        known: Keys that are settings.
        config: The file of settings; None: there is none.
    """
    key = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{key} is not set: give --{key.replace('_', '-')}"
    if not key:
        return message
    shown = key if _is_secret(key, known) else f"{key} = {error['input']!r}"
    if error["type"] == "extra_forbidden":
        message = f"there is no such setting{_meant(key, known)}"
    elif error["type"] in _EXPECTED:
        message = "expected " + _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    return f"{shown}: {message}{_place(key, error['input'], config)}"


def unknown_variables(environment: Collection[str], known: Collection[str]) -> list[str]:
    """Returns a line for each STATEWISE_ variable of the environment that no part of statewise reads."""
    lines = []
    for name in sorted(environment):
        key = name.removeprefix(PREFIX).lower()
        read_elsewhere = name.startswith(_OTHER_VARIABLES) or _OF_KUBERNETES.fullmatch(name)
        if name.startswith(PREFIX) and key not in known and not read_elsewhere:
            lines.append(f"{name}: there is no such setting{_meant(key, known, PREFIX)}")
    return lines


def _meant(key: str, known: Collection[str], prefix: str = "") -> str:
    alike = get_close_matches(key, known, n=1)
    meant = (prefix + alike[0].upper() if prefix else alike[0]) if alike else ""
    return f"; is {meant} meant?" if meant else ""


def _is_secret(key: str, known: Collection[str]) -> bool:
    """Whether the value of an entry must stay hidden: its key names a secret, or is a misspelling of one."""
    return key in _SECRETS or (key not in known and bool(get_close_matches(key, _SECRETS)))


def _place(key: str, value: object, config: Path | None) -> str:
    """The line of the file that sets the key to that value; empty: the file is not where it comes from."""
    if config is None:
        return ""
    content = tomllib.loads(config.read_text())
    if content.get(key) != value:
        return ""
    for number, line in enumerate(config.read_text().splitlines(), start=1):
        if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return f" ({config}, line {number})"
    return f" ({config})"
