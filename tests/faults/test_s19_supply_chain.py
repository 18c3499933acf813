"""S19: what we depend on is bounded, locked by hash, and fetches nothing by itself."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fixtures.programs import run_program

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = {
    name: (ROOT / "locks" / f"{name}.txt").read_text("utf-8").replace("\\\n", "")
    for name in ("dev", "servers")
}


def locked(name: str) -> list[Requirement]:
    """What a lock pins, without the hashes."""
    lines = [line for line in LOCKS[name].splitlines() if not line.startswith("#")]
    return [Requirement(line.partition(" --hash")[0]) for line in lines]


def wanted(group: str) -> Iterator[Requirement]:
    """What a group of pyproject.toml asks for, groups inside it included."""
    for entry in PROJECT["dependency-groups"][group]:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from wanted(str(entry["include-group"]))


@pytest.mark.parametrize("name", LOCKS)
def test_every_file_has_a_hash(name: str) -> None:
    """Each line is one version, with hashes; none names an index or an address."""
    lines = [line for line in LOCKS[name].splitlines() if not line.startswith("#")]
    hashes = r"(\s+--hash=sha256:[0-9a-f]{64})+\s*"
    for line in lines:
        assert re.fullmatch(rf"[a-z0-9-]+==\S+( ; [^#]+?)?{hashes}", line), line[:80]
    assert "://" not in LOCKS[name]


def test_extras_bring_what_is_used() -> None:
    """An extra asks for nothing that no module of ours imports."""
    extras = PROJECT["project"]["optional-dependencies"]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    modules = {"pyyaml": "yaml"}
    for extra in extras.keys() - {"auto", "all"}:  # one runs beside us, one is a list
        for wish in map(Requirement, extras[extra]):
            module = modules.get(wish.name.lower(), wish.name)
            ways = rf"^ *(from|import) {module}\b|import_module\(.{module}\b"
            assert re.search(ways, source, re.MULTILINE), wish
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == extras.keys() - {"all"}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_what_the_project_asks_for(name: str) -> None:
    """Whoever changes a bound runs ``make lock``."""
    asked = list(wanted(name))
    if name == "dev":
        asked += map(Requirement, PROJECT["project"]["dependencies"])
    pins = {canonicalize_name(pin.name): pin for pin in locked(name)}
    for requirement in asked:
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = (each.version for each in pin.specifier)
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_servers_run_beside_what_is_tested() -> None:
    """One package has one version in both locks."""
    both = [{str(p.name): str(p.specifier) for p in locked(name)} for name in LOCKS]
    shared = both[0].keys() & both[1].keys()
    assert {n: both[0][n] for n in shared} == {n: both[1][n] for n in shared}


def test_dependencies_are_few_and_bounded() -> None:
    """A release of OpenTelemetry that nobody has tested is not installed."""
    core = [Requirement(each) for each in PROJECT["project"]["dependencies"]]
    assert len(core) <= 7
    for requirement in core:
        operators = {each.operator for each in requirement.specifier}
        assert "<" in operators, requirement
        if requirement.name.startswith("opentelemetry"):
            assert not requirement.specifier.contains("1.46.0"), requirement


def test_workflow_is_pinned_and_may_only_read() -> None:
    """Actions are named by the hash of a commit; the token of a run writes nothing."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in flow["jobs"].values())
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40}", each) for each in used), used


def test_import_needs_no_network() -> None:
    """No module of the package looks up a name, connects, or runs a program."""
    run_program("""
        import pkgutil
        import sys

        REFUSED = ("connect", "getaddrinfo", "gethostbyname", "sendto", "Request")

        def refuse(event, arguments):
            module, _, action = event.partition(".")
            if module in ("socket", "urllib") and action in REFUSED:
                raise SystemExit(f"{event} {arguments}")
            if module == "subprocess":
                raise SystemExit(f"{event} {arguments}")

        sys.addaudithook(refuse)
        import flext_observability as fo

        for name in fo.__all__:
            getattr(fo, name)
        for found in pkgutil.walk_packages(fo.__path__, "flext_observability."):
            if not found.name.endswith("__main__") and "_examples" not in found.name:
                __import__(found.name)
        """).ok()
