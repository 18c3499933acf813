"""The commands that write the files of the stack, or load them."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FAILED: Final = 1
_CANNOT_BEGIN: Final = 2
_RULES = "prometheus/rules"
_DASHBOARDS = "grafana/dashboards"


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``init``, ``rules`` and ``dashboards``."""
    init = add(
        "init",
        help="write the missing files of the monitoring stack",
        description="Write prometheus/, alertmanager/ and grafana/; files that exist "
        "stay as they are. They are for programs on this machine: Prometheus scrapes "
        "itself and who makes himself known in prometheus/targets. SCRAPE_INTERVAL "
        "gives the seconds between two scrapes.",
    )
    _output(init, ".", "project that the files belong to")
    init.add_argument(
        "--stack",
        action="store_true",
        help="for the containers of our docker-compose.monitoring.yml instead",
    )
    init.set_defaults(run=_init)

    rules = add(
        "rules",
        help="write the Prometheus rules",
        description="Write alerting and recording rules over the metrics we emit.",
    )
    _output(rules, _RULES, "folder of the rules")
    _service(rules)
    rules.add_argument(
        "--success-ratio",
        type=float,
        default=0.99,
        metavar="R",
        help="share of the calls that must succeed (default: 0.99)",
    )
    rules.add_argument(
        "--duration-s",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds below which 95 %% of an operation's calls must end (default: 1)",
    )
    rules.set_defaults(run=_rules)

    dashboards = add(
        "dashboards",
        help="write the Grafana dashboards, or load them into Grafana",
        description="Write the dashboards; with --upload, load them into the Grafana "
        "of GRAFANA_URL with the token of GRAFANA_API_KEY.",
    )
    _output(dashboards, None, f"folder of the dashboards (default: {_DASHBOARDS})")
    _service(dashboards)
    dashboards.add_argument(
        "--upload", action="store_true", help="load them into Grafana"
    )
    dashboards.add_argument(
        "--with-sources",
        action="store_true",
        help="with --upload: load the data sources of the stack too",
    )
    dashboards.set_defaults(run=_dashboards)


def _output(parser: argparse.ArgumentParser, default: str | None, what: str) -> None:
    shown = what if default is None else f"{what} (default: {default})"
    parser.add_argument("--output", default=default, metavar="DIR", help=shown)


def _service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service", metavar="NAME", help="watch this service only (its job)"
    )


def _init(options: argparse.Namespace) -> int:
    from .files import Choices, stack_files, write

    def work() -> str:
        files = stack_files(Choices.from_environment(is_stack=options.stack))
        written, kept = write(files, Path(options.output), keep=True)
        lines = [f"wrote {path}" for path in written]
        return "\n".join([*lines, *(f"kept {path}" for path in kept)])

    return _reported(work)


def _rules(options: argparse.Namespace) -> int:
    from .files import Choices, rule_texts
    from .rules import Goals

    def work() -> str:
        goals = Goals(options.success_ratio, options.duration_s)
        return _written(rule_texts(Choices(options.service, goals)), options.output)

    return _reported(work)


def _dashboards(options: argparse.Namespace) -> int:
    from .files import Choices, dashboard_texts

    if options.output is not None or not options.upload:
        folder = options.output or _DASHBOARDS
        choices: Choices = Choices(options.service)
        code = _reported(lambda: _written(dashboard_texts(choices), folder))
        if code or not options.upload:
            return code
    return _upload(options.service, with_sources=options.with_sources)


def _upload(service: str | None, *, with_sources: bool) -> int:
    address = os.environ.get("GRAFANA_URL", "").strip()
    token = os.environ.get("GRAFANA_API_KEY", "").strip()
    for name, value in (("GRAFANA_URL", address), ("GRAFANA_API_KEY", token)):
        if not value:
            return _said(f"{name} is not set", _CANNOT_BEGIN)
    from .._pipeline.web_client import WebClient
    from ..connection import checked_web_address
    from .grafana import upload

    try:
        client = WebClient(checked_web_address(address), token)
        result = upload(client, service, with_sources=with_sources)
    except ValueError as error:
        return _said(f"GRAFANA_URL: {error}", _CANNOT_BEGIN)
    if result.is_failure:
        return _said(str(result.error), _FAILED)
    sys.stdout.write("".join(f"loaded {name}\n" for name in result.data or ()))
    return 0


def _written(files: dict[str, str], folder: str) -> str:
    from .files import write

    flat = {Path(path).name: text for path, text in files.items()}
    written, _ = write(flat, Path(folder), keep=False)
    return "\n".join(f"wrote {Path(folder, name)}" for name in written)


def _reported(work: Callable[[], str]) -> int:
    from .files import NoYamlError

    try:
        told = work()
    except (OSError, ValueError, NoYamlError) as error:
        return _said(str(error), _CANNOT_BEGIN)
    sys.stdout.write(f"{told}\n")
    return 0


def _said(message: str, code: int) -> int:
    sys.stderr.write(f"flext-observability: {message}\n")
    return code
