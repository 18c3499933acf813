"""The laws of the house: floors, the door, and the text of the source."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

import flext_observability as fo

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "flext_observability"

# The first name of a module's path inside the package -> its floor. Imports go down or
# stay level; a new module needs a line here.
FLOORS = {
    "errors": 0,
    "result": 0,
    "constants": 0,
    "locks": 0,
    "own_log": 0,
    "catalogue": 0,
    "access": 0,
    "secret_names": 0,
    "secret_columns": 0,
    "secret_text": 0,
    "store": 1,
    "container": 1,
    "typings": 2,
    "protocols": 2,
    "environment": 1,
    "connection": 1,
    "setting_rules": 1,
    "settings": 1,
    "config": 1,
    "settings_reader": 1,
    "application_settings": 1,
    "entities": 2,  # their defaults ask for the current ids
    "correlation": 2,
    "traceparent": 2,
    "_pipeline": 3,
    "report": 4,
    "runtime": 4,
    "termination": 4,
    "host_hooks": 4,
    "lifecycle": 4,
    "recording": 5,
    "monitor": 5,
    "failures": 5,
    "calls": 5,
    "operation": 5,
    "spanned_calls": 5,
    "spans": 5,
    "monitoring": 5,
    "descriptors": 5,
    "propagation": 5,
    "served_requests": 5,
    "asgi": 5,
    "wsgi": 5,
    "instruments": 5,
    "logs": 5,
    "factory": 5,
    "creation": 5,
    "trace_life": 5,
    "traces": 5,
    "services": 5,
    "system": 5,
    "repository": 5,
    "platform": 5,
    "web": 6,
    "demo": 6,
    "drain": 6,
    "server": 6,
    "probes": 6,
    "stack": 6,
    "cli": 6,
    "__main__": 6,
}
SURFACES = FLOORS["cli"]
# Third-party packages a floor may import; floors above the table take any dependency.
ALLOWED = {
    0: (),
    1: ("platformdirs", "pydantic", "pydantic_core", "pydantic_settings"),
    2: ("opentelemetry", "pydantic", "pydantic_core", "pydantic_settings"),
}
SDK = re.compile(r"opentelemetry\.(sdk|exporter|proto)\b")
HEAVY = (
    "fastapi",
    "google.protobuf",
    "grpc",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "requests",
)
DOOR = "__init__"
# Made and returned by functions of the door; the contract makes no name of them public.
HANDED_OUT = {"FlextCounter", "FlextGauge", "FlextHistogram", "FlextSpan"}


@dataclass(frozen=True)
class Import:
    """One imported module, by its full dotted name, and where the import stands."""

    name: str
    line: int


@dataclass(frozen=True)
class Module:
    """A parsed file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """The dotted name inside the package; a room's door is the room itself."""
        parts = self.path.relative_to(PACKAGE).with_suffix("").parts
        return ".".join(parts[:-1] if parts[1:] and parts[-1] == DOOR else parts)

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))

    @property
    def folder(self) -> tuple[str, ...]:
        """The package that relative imports start from."""
        return self.path.parent.relative_to(SRC).parts

    def imports(self) -> Iterator[Import]:
        """Yield every import, also those inside functions and for type checkers."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                yield from self._from(node)

    def _from(self, node: ast.ImportFrom) -> Iterator[Import]:
        above = self.folder[: len(self.folder) - node.level + 1] if node.level else ()
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            deeper = f"{source}.{alias.name}"
            name = deeper if deeper in MODULE_NAMES else source
            yield Import(name, node.lineno)


MODULES = [
    Module(path)
    for path in sorted(PACKAGE.rglob("*.py"))
    if "_examples" not in path.parts
]
MODULE_NAMES = {f"flext_observability.{module.name}" for module in MODULES}
INSIDE = [module for module in MODULES if module.name != DOOR]
BY_NAME = pytest.mark.parametrize("module", INSIDE, ids=lambda module: module.name)


def floor_of(name: str) -> int:
    return FLOORS[name.partition(".")[0]]


def ours(module: Module) -> Iterator[Import]:
    """Yield the imports of our own modules, named inside the package."""
    prefix = "flext_observability."
    for found in module.imports():
        if found.name.startswith(prefix):
            yield Import(found.name.removeprefix(prefix), found.line)


def third_party(module: Module) -> Iterator[Import]:
    for found in module.imports():
        top = found.name.partition(".")[0]
        if top != "flext_observability" and top not in sys.stdlib_module_names:
            yield found


# --- floors ---------------------------------------------------------------------------


@BY_NAME
def test_every_module_has_a_floor(module: Module) -> None:
    """Nobody adds a module without saying on which floor it lives."""
    assert module.name.partition(".")[0] in FLOORS


@BY_NAME
def test_imports_never_go_up(module: Module) -> None:
    """A module imports from its own floor and those below."""
    upward = [
        f"line {found.line}: {found.name}"
        for found in ours(module)
        if floor_of(found.name) > floor_of(module.name)
    ]
    assert not upward


@BY_NAME
def test_only_surfaces_use_the_door(module: Module) -> None:
    """The door only re-exports: whoever is inside goes to the room itself."""
    lines = [
        found.line
        for found in module.imports()
        if found.name == "flext_observability" and floor_of(module.name) < SURFACES
    ]
    assert not lines


@BY_NAME
def test_third_parties_enter_on_their_floor(module: Module) -> None:
    """Facts need nothing, values Pydantic, context the OpenTelemetry API alone."""
    floor = floor_of(module.name)
    if floor not in ALLOWED:
        return
    strangers = [
        f"line {found.line}: {found.name}"
        for found in third_party(module)
        if found.name.partition(".")[0] not in ALLOWED[floor] or SDK.match(found.name)
    ]
    assert not strangers


def test_imports_form_no_cycle() -> None:
    """Any module can be read, and loaded, before those that use it."""
    graph = {
        module.name: {found.name for found in ours(module)} - {module.name}
        for module in INSIDE
    }
    graphlib.TopologicalSorter(graph).prepare()


# --- text -----------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
@pytest.mark.parametrize(
    "forbidden",
    [
        "import opentelemetry",
        "import prometheus_client",
        "import logging",
        r"from flext_observability\.[a-z]",
    ],
)
def test_text_gates(module: Module, forbidden: str) -> None:
    """Third parties come in by `from`, our own modules by relative imports."""
    lines = module.path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if re.search(forbidden, line)]


def programs_outside() -> Iterator[Path]:
    for folder in ("tests", "examples", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_users_come_through_the_door() -> None:
    """Tests, examples and benchmarks import the root alone, as users must."""
    inner = re.compile(r"^\s*(from|import) flext_observability\.", re.MULTILINE)
    guilty = [
        str(path.relative_to(ROOT))
        for path in programs_outside()
        if inner.search(path.read_text(encoding="utf-8"))
    ]
    assert not guilty


# --- the door -------------------------------------------------------------------------


@functools.cache
def definitions() -> dict[str, str]:
    """Every top-level public class, function or constant -> the module it stands in."""
    found: dict[str, str] = {}
    for module in INSIDE:
        for node in module.tree.body:
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    found[name] = module.name
                case (
                    ast.AnnAssign(target=ast.Name(id=name))
                    | ast.Assign(targets=[ast.Name(id=name)])
                ):
                    found.setdefault(name, module.name)
    return found


def test_all_is_sorted_and_unique() -> None:
    """`__all__` reads like an index."""
    assert list(fo.__all__) == sorted(set(fo.__all__))


def test_dir_agrees_with_all() -> None:
    """What `dir()` and completion offer is what `__all__` promises."""
    public = {name for name in fo.__all__ if not name.startswith("_")}
    assert {name for name in dir(fo) if not name.startswith("_")} == public
    assert set(fo.__all__) <= set(dir(fo))


@pytest.mark.parametrize("name", fo.__all__)
def test_every_name_resolves_to_its_definition(name: str) -> None:
    """Each name leads to the one thing of that name defined inside."""
    value = getattr(fo, name)
    if name == "__version__":
        return
    module = definitions()[name]
    assert floor_of(module) < SURFACES
    if isinstance(value, type) or callable(value):
        assert value.__module__ == f"flext_observability.{module}"
        assert value.__name__ == name


def test_every_public_definition_is_at_the_door() -> None:
    """A `Flext…` or `flext_…` name inside that the door lacks is a mistake."""
    inside = {name for name in definitions() if name.startswith(("Flext", "flext_"))}
    assert inside - HANDED_OUT <= set(fo.__all__)


def test_type_checkers_see_the_same_door() -> None:
    """The imports under TYPE_CHECKING are exactly `__all__`."""
    door = next(module for module in MODULES if module.name == DOOR)
    declared = {
        alias.asname or alias.name
        for block in door.tree.body
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == set(fo.__all__) - {"__version__"}


@pytest.mark.parametrize("name", fo.__all__)
def test_every_name_is_used_before_the_type_checkers(name: str) -> None:
    """`tests/typing/public_api.py` leaves no public name out."""
    text = (ROOT / "tests/typing/public_api.py").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", text)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typing mistake is told as for any module."""
    with pytest.raises(AttributeError, match="flext_setup"):
        getattr(fo, "flext_setup")  # noqa: B009 - type checkers know it is missing


@pytest.mark.parametrize(
    "use", ["", "; fo.__all__", "; dir(fo)", "; fo.__version__"], ids=str
)
def test_import_loads_nothing_heavy(use: str) -> None:
    """Importing and inspecting the door costs no SDK, gRPC or Pydantic."""
    code = f"import sys, flext_observability as fo{use}; print(*sys.modules, sep=',')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.strip().split(","))
    assert "flext_observability" in loaded
    assert not loaded & set(HEAVY)


def test_version_is_that_of_the_project() -> None:
    """The version that was installed is the one the source gives."""
    assert fo.__version__ == version("flext-observability")
