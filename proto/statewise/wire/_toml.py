"""Writes entries as TOML: scalars, lists and inline tables on one line, tables under headings."""

import json
from collections.abc import Mapping
from typing import Any


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
