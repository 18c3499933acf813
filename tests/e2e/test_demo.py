"""The first thing a new user runs: `flext-observability demo`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flext_observability as fo
from tests.fixtures.programs import clean_environment

TIME_LIMIT_S = 60.0


def run_demo(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flext_observability", "demo"],
        env=clean_environment(PYTHONIOENCODING="utf-8", **env),
        capture_output=True,
        encoding="utf-8",
        timeout=TIME_LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return run_demo()


def test_it_succeeds_quietly(demo: subprocess.CompletedProcess[str]) -> None:
    """It ends by itself within seconds, exit code 0, nothing on stderr."""
    assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout


def test_a_trace_goes_through_both_processes(
    demo: subprocess.CompletedProcess[str],
) -> None:
    """The payment's span stands below the shop's call, in one tree, one trace."""
    trees = re.findall(
        r"^trace ([0-9a-f]{32}) .*\n((?:[│├└ ].*\n)+)", demo.stdout, re.MULTILINE
    )
    assert len(trees) == 3  # one for each order
    assert len({trace_id for trace_id, _ in trees}) == 3
    for _, tree in trees:
        lines = tree.splitlines()
        caller = next(i for i, line in enumerate(lines) if "shop · POST" in line)
        called = lines[caller + 1]
        assert "payments · POST /charges [server]" in called
        assert called.index("payments") > lines[caller].index("shop")
        assert "elsewhere" not in tree


def test_errors_and_retries_are_visible(
    demo: subprocess.CompletedProcess[str],
) -> None:
    """The declined payment shows its error type and message; the retry is there."""
    assert "✗ PaymentDeclinedError: insufficient funds" in demo.stdout
    assert "✗ PaymentBusyError: the bank is busy" in demo.stdout
    assert "trying again: the bank is busy" in demo.stdout


def test_logs_carry_trace_ids(demo: subprocess.CompletedProcess[str]) -> None:
    """Every log line of the order's path names the trace it belongs to."""
    traces = re.findall(r"^trace ([0-9a-f]{32})", demo.stdout, re.MULTILINE)
    lines = [line for line in demo.stdout.splitlines() if "order placed" in line]
    assert len(lines) == 2
    for line in lines:
        (short,) = re.findall(r"trace=([0-9a-f]{8})$", line)
        assert any(trace_id.startswith(short) for trace_id in traces)


def test_metrics_of_both_services(demo: subprocess.CompletedProcess[str]) -> None:
    """Counters and durations of both processes arrive."""
    assert re.search(
        r"shop\.orders \({order}\) counter +2  outcome=placed", demo.stdout
    )
    assert re.search(
        r"payments\.charges \({charge}\) counter +1  result=declined", demo.stdout
    )
    assert demo.stdout.count("flext.operation.duration (s) histogram") >= 5


def test_the_senders_and_the_receiver_agree(
    demo: subprocess.CompletedProcess[str],
) -> None:
    """For each signal and process: delivered N of N, and N received."""
    pattern = r"(\w+) +(\w+) +delivered (\d+) of (\d+), received (\d+): ok"
    ledger = re.findall(pattern, demo.stdout)
    assert {row[:2] for row in ledger} == {
        (signal, service)
        for signal in ("traces", "metrics", "logs")
        for service in ("shop", "payments")
    }
    for _, _, delivered, accepted, received in ledger:
        assert delivered == accepted == received
        assert int(received) > 0


def test_settings_from_outside_do_not_disturb() -> None:
    """It shows the same under a disabled SDK, a foreign collector and a proxy."""
    done = run_demo(
        OTEL_SDK_DISABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://192.0.2.1:4317",
        HTTP_PROXY="http://192.0.2.1:3128",
        http_proxy="http://192.0.2.1:3128",
        FLEXT_OBSERVABILITY_EXPORTERS='["none"]',
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(": ok") == 6


@pytest.mark.parametrize(
    ("tampering", "verdict"),
    [
        ("sys.exit(3)", "shop.py ended with exit code"),
        ("sys.stdout = open(os.devnull, 'w')", "shop.py ended with exit code 0"),
        ("claim('lost')", 'shop ended without a ledger: "lost"'),
        ("claim({name: [1000, 1000] for name in SIGNALS})", "the counts differ"),
    ],
)
def test_what_goes_wrong_is_reported(
    tmp_path: Path, tampering: str, verdict: str
) -> None:
    """A program that fails, says nothing, or claims what is not true: exit code 1."""
    (tmp_path / "sitecustomize.py").write_text(
        "import json, os, sys\n"
        "SIGNALS = ('traces', 'metrics', 'logs')\n"
        "def claim(ledger, dumps=json.dumps):\n"
        "    def tampered(content, **options):\n"
        "        is_ledger = isinstance(content, dict) and 'traces' in content\n"
        "        return dumps(ledger if is_ledger else content, **options)\n"
        "    json.dumps = tampered\n"
        "if 'shop.py' in str(sys.orig_argv):\n"
        f"    {tampering}\n"
    )
    done = run_demo(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "The demo failed: " in done.stdout
    assert verdict in done.stdout


def test_version() -> None:
    """--version prints the version of the package and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "flext_observability", "--version"],
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert done.stdout == f"flext-observability {fo.__version__}\n"


def test_a_plain_terminal_gets_escapes() -> None:
    """Where the output cannot show a tree, the demo still works."""
    done = subprocess.run(
        [sys.executable, "-m", "flext_observability", "demo"],
        env=clean_environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        encoding="ascii",
        timeout=TIME_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u2514\\u2500 shop" in done.stdout
