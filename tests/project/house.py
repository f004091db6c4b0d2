"""Measures how the code is laid out and compares it with limits: `python tests/project/house.py`.

With `--write`, writes the tables of folders in docs/design.md instead; `make docs` does so.

A package is a tree of folders; a folder is one concept. This module only measures; `test_layout.py` declares
which folder may import which, and fails where something is over a limit.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "wire": ROOT / "proto/statewise/wire",
    "models": ROOT / "models/statewise/models",
    "export": ROOT / "export/statewise/export",
    "service": ROOT / "service/statewise/service",
    "client": ROOT / "client/statewise/client",
    "cli": ROOT / "cli/statewise/cli",
}

MOST_MODULES = 13
"""Modules in one folder, without its `__init__`."""
MOST_FOLDERS = 15
"""Folders side by side."""
MOST_FLOORS = 13
"""Folders of one package that import each other in a chain."""
MOST_MODULE_FLOORS = 8
"""Modules of one folder that import each other in a chain."""
MOST_LINES = 300
MOST_TEST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_NESTING = 4
"""Blocks of control flow inside each other in one function."""
MOST_EXCEPTIONS = 5

CROWDED = {"cli": "one module a command"}
"""Folders, as paths below the package, that may hold more modules, each with its reason."""

LONG: dict[str, str] = {
    "client/statewise/client/_async/_client.py": "one public class, looked up in one place",
    "client/statewise/client/_async/_session.py": "one public class, looked up in one place",
    "client/statewise/client/_sync/_client.py": "one public class, looked up in one place",
    "client/statewise/client/_sync/_session.py": "one public class, looked up in one place",
}
"""Files, as paths below the root, that may be longer, each with its reason."""


@dataclass(frozen=True, slots=True)
class Module:
    """One file of a package.

    Attributes:
        name: Its full name; that of a folder's `__init__` ends with the folder.
        path: Where the file is.
        folder: Its place below the package, "" for the root.
        imports: Full names of the modules of the same package that it imports, anywhere in the file.
    """

    name: str
    path: Path
    folder: str
    imports: frozenset[str]

    @property
    def unit(self) -> str:
        """What it counts as between folders: its folder, or its own name in the package's root."""
        if self.folder:
            return self.folder
        return "__init__" if self.path.name == "__init__.py" else self.path.stem


@dataclass(frozen=True)
class Package:
    """The modules of one package."""

    name: str
    modules: Mapping[str, Module]

    @property
    def folders(self) -> list[str]:
        """Folders that hold modules, "" for the root."""
        return sorted({module.folder for module in self.modules.values()})

    def modules_in(self, folder: str) -> list[Module]:
        """Modules of one folder, without its `__init__`."""
        return [
            module
            for module in self.modules.values()
            if module.folder == folder and module.path.name != "__init__.py"
        ]

    def between_folders(self) -> dict[str, set[str]]:
        """Which units import which other units; `Module.unit` says what a unit is."""
        graph: dict[str, set[str]] = {module.unit: set() for module in self.modules.values()}
        for module in self.modules.values():
            graph[module.unit] |= {self.modules[name].unit for name in module.imports} - {module.unit}
        return graph

    def between_modules(self) -> dict[str, set[str]]:
        """Which modules import which, a folder's `__init__` being a module like any other."""
        return {name: set(module.imports) for name, module in self.modules.items()}


@dataclass
class Findings:
    """What is over a limit, one line each."""

    lines: list[str] = field(default_factory=list)

    def check(self, what: str, value: int, limit: int) -> None:
        """Adds a line where the value is over the limit."""
        if value > limit:
            self.lines.append(f"{what}: {value}, expected at most {limit}")


def imported_names(path: Path, source_root: Path) -> Iterator[tuple[str, str]]:
    """What a file imports, anywhere in it: the module's full name, and the name taken from it or ""."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                inside = path.relative_to(source_root).parts[: -node.level]
                module = ".".join([*inside, *filter(None, [module])])
            yield from ((module, alias.name) for alias in node.names)


@cache
def read_package(name: str) -> Package:
    """Reads the modules of a package and what they import of each other."""
    base = PACKAGES[name]
    source_root = base.parents[1]
    paths = {_module_name(path, source_root): path for path in sorted(base.rglob("*.py"))}
    modules = {}
    for full_name, path in paths.items():
        named = {
            next((known for known in (f"{module}.{taken}", module) if known in paths), full_name)
            for module, taken in imported_names(path, source_root)
        }
        folder = path.parent.relative_to(base).as_posix()
        modules[full_name] = Module(
            full_name, path, "" if folder == "." else folder, frozenset(named - {full_name})
        )
    return Package(name, modules)


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other, sorted (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        waiting.append(node)
        for follower in graph[node]:
            if follower not in order:
                visit(follower)
                lowest[node] = min(lowest[node], lowest[follower])
            elif follower in waiting:
                lowest[node] = min(lowest[node], order[follower])
        if lowest[node] == order[node]:
            group = waiting[waiting.index(node) :]
            del waiting[waiting.index(node) :]
            if len(group) > 1 or node in graph[node]:
                found.append(sorted(group))

    for node in graph:
        if node not in order:
            visit(node)
    return sorted(found)


def floors(graph: Mapping[str, Iterable[str]]) -> int:
    """Nodes on the longest chain of a graph without circles."""
    heights: dict[str, int] = {}

    def height(node: str) -> int:
        if node not in heights:
            heights[node] = 1 + max(map(height, graph[node]), default=0)
        return heights[node]

    return max(map(height, graph), default=0)


def longest_function(tree: ast.Module) -> tuple[int, str]:
    """Lines and name of the longest function, its docstring included."""
    sizes = [((node.end_lineno or 0) - node.lineno + 1, node.name) for node in _functions(tree)]
    return max(sizes, default=(0, ""))


def deepest_function(tree: ast.Module) -> tuple[int, str]:
    """Nesting and name of the function whose blocks are nested most; an inner function begins anew."""
    return max(((_nesting(node.body), node.name) for node in _functions(tree)), default=(0, ""))


def check_package(package: Package, findings: Findings) -> None:
    """Compares folders, floors and circles with the limits."""
    for folder in package.folders:
        place = f"{package.name}/{folder}".rstrip("/")
        modules = package.modules_in(folder)
        if place not in CROWDED:
            findings.check(f"{place}: modules", len(modules), MOST_MODULES)
        depth = folder.count("/") + 1 if folder else 0
        beside = [other for other in package.folders if other and other.count("/") == depth]
        inside = [other for other in beside if not folder or other.startswith(f"{folder}/")]
        findings.check(f"{place}: folders", len(inside), MOST_FOLDERS)
        names = {module.name for module in modules}
        graph = {module.name: set(module.imports) & names for module in modules}
        if not circles(graph):
            findings.check(f"{place}: floors of modules", floors(graph), MOST_MODULE_FLOORS)
    between = package.between_folders()
    groups = circles(between) + circles(package.between_modules())
    findings.lines += [f"{package.name}: circle of {', '.join(group)}" for group in groups]
    if not groups:
        findings.check(f"{package.name}: floors", floors(between), MOST_FLOORS)


def check_file(path: Path, most_lines: int, findings: Findings) -> None:
    """Compares the lengths in one file with the limits."""
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text()
    if name not in LONG:
        findings.check(f"{name}: lines", len(text.splitlines()), most_lines)
    tree = ast.parse(text)
    lines, function = longest_function(tree)
    findings.check(f"{name}: lines of {function}", lines, MOST_FUNCTION_LINES)
    nesting, function = deepest_function(tree)
    findings.check(f"{name}: nesting of {function}", nesting, MOST_NESTING)


def product_files() -> list[Path]:
    """Python files of the packages and of the commands beside them; generated ones are left out."""
    roots = [*PACKAGES.values(), *(ROOT / name for name in ("bench", "examples", "docker", "docs"))]
    return sorted([path for root in roots for path in root.rglob("*.py")] + [ROOT / "proto/generate.py"])


def findings() -> Findings:
    """Everything that is over a limit."""
    found = Findings()
    for name in PACKAGES:
        check_package(read_package(name), found)
    for path in product_files():
        check_file(path, MOST_LINES, found)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        check_file(path, MOST_TEST_LINES, found)
    found.lines += [
        f"{name}: an exception for a file that is not too long"
        for name in LONG
        if len((ROOT / name).read_text().splitlines()) <= MOST_LINES
    ]
    found.check("exceptions from the length of files", len(LONG), MOST_EXCEPTIONS)
    return found


PAGE = ROOT / "docs/design.md"
BEGIN = "<!-- Written by `make docs` from the first sentence of each folder's `__init__`. -->\n"
END = "<!-- Until here. -->\n"


def levels(package: Package) -> list[list[str]]:
    """Folders of a package by floor, lowest first; each imports folders of lower floors only."""
    graph = package.between_folders()
    height = {unit: floors(_reachable(graph, unit)) for unit in graph}
    folders = [folder for folder in package.folders if folder]
    return [
        [folder for folder in folders if height[folder] == floor]
        for floor in sorted({height[folder] for folder in folders})
    ]


def page() -> str:
    """docs/design.md with the tables of folders as they have to be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = []
    for name in ("service", "client", "export", "models"):
        package = read_package(name)
        rows = [
            f"| `{folder}/` | {_first_sentences(PACKAGES[name] / folder / '__init__.py')} |"
            for floor in levels(package)
            for folder in floor
        ]
        tables.append("\n".join([f"| `{name}/` | |", "|---|---|", *rows]))
    return f"{before}{BEGIN}\n" + "\n\n".join(tables) + f"\n\n{END}{after}"


def print_table() -> None:
    """Prints, for each package, its folders with modules and floors."""
    for name in PACKAGES:
        package = read_package(name)
        imports = sum(len(module.imports) for module in package.modules.values())
        between = package.between_folders()
        height = "-" if circles(between) else str(floors(between))
        print(f"{name}: {len(package.modules)} modules, {imports} imports, {height} floors")
        for folder in package.folders:
            modules = package.modules_in(folder)
            lines = sum(len(module.path.read_text().splitlines()) for module in modules)
            print(f"  {folder or '.':28} {len(modules):3} modules {lines:6} lines")


def _module_name(path: Path, source_root: Path) -> str:
    parts = path.relative_to(source_root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _reachable(graph: Mapping[str, set[str]], start: str) -> dict[str, set[str]]:
    """The part of a graph that one node reaches, itself included."""
    found: dict[str, set[str]] = {}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = graph[node]
            waiting.extend(graph[node])
    return found


def _first_sentences(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def _nesting(body: Iterable[ast.AST]) -> int:
    deepest = 0
    for statement in body:
        if isinstance(statement, _BLOCKS):
            deepest = max(deepest, 1 + _nesting(_inside(statement)))
    return deepest


def _inside(block: ast.AST) -> Iterator[ast.AST]:
    """Statements inside a block. An `elif` is a branch of its `if`, not a block inside it."""
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(block, name, [])
        if isinstance(block, ast.If) and name == "orelse" and len(statements) == 1:
            statement = statements[0]
            yield from _inside(statement) if isinstance(statement, ast.If) else [statement]
        else:
            yield from statements
    for part in [*getattr(block, "handlers", []), *getattr(block, "cases", [])]:
        yield from part.body


def main() -> int:
    """Prints the table and the findings. Returns 1 where there are findings, else 0."""
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    print_table()
    found = findings().lines
    print("\n".join(["", *found] if found else ["", "nothing is over a limit"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
