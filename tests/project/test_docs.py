"""The written pages: what they link to exists, and what they list is what the code has."""

import re
import runpy
from pathlib import Path

import pytest
from google.rpc import code_pb2

from statewise.service.transport.messages import STATUS_OF_REASON
from statewise.wire import Reason

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        other = page.parent / target if target else page
        assert other.exists(), f"{page.name}: {link}"
        if other.suffix == ".py" and re.fullmatch(r"L\d+", anchor):
            assert int(anchor[1:]) <= len(other.read_text().splitlines()), f"{page.name}: {link}"
        else:
            assert not anchor or anchor in anchors(other), f"{page.name}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked == {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}


def test_the_table_of_settings_is_that_of_the_server() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "configuration.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: make docs"


def test_what_the_deployment_asks_prometheus_for_is_there() -> None:
    listed = set(
        re.findall(r"^\| `(statewise_\w+)`", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    )
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for path in (ROOT / "docker").rglob("*")
        if path.suffix in {".json", ".yml", ".yaml"}
        for name in re.findall(r"\bstatewise_[a-z_]+", path.read_text())
    }
    assert asked
    assert asked <= listed


def test_the_table_of_failures_is_that_of_the_server() -> None:
    design = (ROOT / "docs/design.md").read_text()
    rows = re.findall(r"^\| ([A-Z_, ]+) \| ([A-Z_, ]+|the same) \| ", design, re.MULTILINE)
    written: dict[str, str] = {}
    for reasons, statuses in rows:
        names = reasons.split(", ")
        of_each = names if statuses == "the same" else statuses.split(", ")
        of_each = of_each if len(of_each) > 1 else of_each * len(names)
        written.update(zip(names, of_each, strict=True))
    assert written == {reason.value: code_pb2.Code.Name(code) for reason, code in STATUS_OF_REASON.items()}
    assert set(written) == set(Reason)
