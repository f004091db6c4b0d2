"""Reads TOML of untrusted files, and writes entries as TOML.

Scalars, lists and inline tables are written on one line, tables under headings.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Any

_LONGEST_TEXT = 4 * 2**20
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){16}""", re.ASCII)
"""A key of more than 16 parts. The parser's memory grows with the square of the number of parts."""

_NAME = r"""["']?(?P<name>[\w.-]+)["']?"""
_HEADING = re.compile(rf"\s*\[(?P<many>\[)?\s*{_NAME}\s*\]")
_SETTING = re.compile(rf"\s*{_NAME}\s*=")


def read_toml(text: str) -> dict[str, Any]:
    """Reads TOML.

    Raises:
        ValueError: it is no TOML, or would take too much memory.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"expected at most {_LONGEST_TEXT} characters; got {len(text)}")
    if _DEEP_KEY.search(text):
        raise ValueError("expected keys of at most 16 parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def place_in_toml(text: str, entry: str) -> str:
    """Returns " (line N)" for the line that sets an entry such as "inputs[1].axes", or what holds the entry.

    Empty: no line does. Lines inside of texts and lists of several lines are not told from others.
    """
    wanted = re.findall(r"[^.\[\]]+|\[\d+\]", entry)
    best, place = 0, ""
    above: list[str] = []
    counts: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        path = above
        if heading := _HEADING.match(line):
            name = heading["name"]
            above = path = [*name.split("."), f"[{counts[name]}]"] if heading["many"] else name.split(".")
            counts[name] += 1
        elif setting := _SETTING.match(line):
            path = [*above, *setting["name"].split(".")]
        else:
            continue
        if best < len(path) <= len(wanted) and wanted[: len(path)] == path:
            best, place = len(path), f" (line {number})"
    return place


def toml_text(entries: Mapping[str, Any]) -> str:
    """Writes the entries as a TOML document; None and empty objects are left out."""
    present = {key: value for key, value in entries.items() if value not in (None, {})}
    lines = [f"{key} = {_toml(value)}" for key, value in present.items() if not _tables(value)]
    for key, value in present.items():
        for table in _tables(value):
            lines += ["", f"[[{key}]]" if isinstance(value, tuple) else f"[{key}]"]
            lines += [f"{_toml_key(k)} = {_toml(v)}" for k, v in table.items() if v is not None]
    return "\n".join(lines) + "\n"


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Returns the objects that an entry consists of; empty for an entry of another kind."""
    entries = value if isinstance(value, tuple) else (value,)
    return entries if entries and all(isinstance(entry, dict) for entry in entries) else ()


def _toml(value: Any) -> str:
    """A value on one line. TOML's texts and numbers are mostly those of JSON; the exceptions stand here."""
    if isinstance(value, dict):
        entries = [f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf, where JSON has Infinity
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _toml(key)
