"""Writes the table of settings in operations.md from `Settings` and its bases; `make docs` runs it.

A test renders the table again and compares. Not part of the package.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from statewise.cli._serve import serve
from statewise.service import Settings

PAGE = Path(__file__).parent / "operations.md"
BEGIN = "<!-- Written by `make docs` from the settings of the server. -->\n"
END = "<!-- Until here. -->\n"


def table() -> str:
    """Renders one row for each setting: name, flag if there is one, default, meaning."""
    flags = set(inspect.signature(serve).parameters)
    rows = ["| setting | flag | default | meaning |", "|---|---|---|---|"]
    meanings = _meanings()
    for name, meaning in meanings.items():
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        rows.append(f"| `{name}` | {flag} | {_default(Settings.model_fields[name].default)} | {meaning} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """Renders operations.md with the current table."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _meanings() -> dict[str, str]:
    """Reads the string below each field: those of `Settings` itself first, then those of its bases."""
    found = {}
    for part in Settings.__mro__[: Settings.__mro__.index(BaseSettings)]:
        (tree,) = ast.parse(inspect.getsource(part)).body
        assert isinstance(tree, ast.ClassDef)
        for entry, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                assert isinstance(text, ast.Expr), f"{entry.target.id} has no text"
                assert isinstance(text.value, ast.Constant)
                found[entry.target.id] = _cell(str(text.value.value))
    assert found.keys() == Settings.model_fields.keys()
    return found


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:_}" if isinstance(value, int) else f"{value}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
