"""``flext-observability demo``: two processes, one receiver, proof that all arrived.

The example programs run as they would anywhere; only their environment says where the
telemetry goes. One exports over gRPC, the other over HTTP.
"""

import json
import os
import subprocess  # nosec B404
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self, TextIO

from ._pipeline.console import render_logs, render_metrics, render_traces
from .constants import Signal
from .web.receiver import Receiver
from .web.store import TelemetryStore

_TIME_LIMIT_S: Final = 30.0
_WAIT_S: Final = 2.0  # for what the senders say has arrived already
_FOREIGN_VARIABLES: Final = ("OTEL_", "FLEXT_", "OBSERVABILITY_")


class _FailedError(Exception):
    """The demo cannot show what it should; the text says why."""


def run_demo(output: TextIO, *, color: bool) -> int:
    """Run the order example, print what arrived, and compare the counts.

    Args:
        output: where to print.
        color: whether to use ANSI colours.

    Returns:
        0 when the receiver holds exactly what the senders say they delivered, else 1.
    """
    try:
        folder = _example_folder()
        with Receiver() as receiver:
            _print_heading(output, receiver)
            ledgers = _run_programs(folder, receiver)
            receiver.store.wait_for(lambda store: _agrees(ledgers, store), _WAIT_S)
        _print_telemetry(output, receiver.store, color=color)
        return _print_comparison(output, ledgers, receiver.store)
    except (_FailedError, OSError) as error:
        output.write(f"\nThe demo failed: {error}\n")
        return 1


def _example_folder() -> Path:
    """Find the programs: in an installed wheel beside us, else in the checkout."""
    package = Path(__file__).resolve().parent
    places = (package / "_examples" / "orders", package.parents[1] / "examples/orders")
    for place in places:
        if (place / "shop.py").is_file():
            return place
    raise _FailedError(f"the example is not installed: {places[0]} does not exist")


# --- running --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What one process says about its records of one signal."""

    service: str
    signal: Signal
    delivered: int
    accepted: int


def _run_programs(folder: Path, receiver: Receiver) -> list[_Ledger]:
    shop_env = _environment(receiver.grpc_endpoint, "grpc")
    payments_env = _environment(receiver.http_endpoint, "http/protobuf")
    with _Program.running(
        folder / "payments.py", payments_env, "--port", "0"
    ) as payments:
        url = payments.next_line()
        with _Program.running(folder / "shop.py", shop_env, url) as shop:
            shop_says = shop.last_line()
        payments.terminate()
        payments_say = payments.last_line()
    return [*_ledgers("shop", shop_says), *_ledgers("payments", payments_say)]


def _environment(endpoint: str, protocol: str) -> dict[str, str]:
    """Return our environment without settings of telemetry except where it goes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_VARIABLES)
    }
    return kept | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        # A proxy for the world outside must not stand between two local processes.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


class _Program:
    """One running example program, killed when it takes too long."""

    def __init__(
        self, name: str, process: subprocess.Popen[str], errors: IO[str]
    ) -> None:
        self._name = name
        self._process = process
        self._errors = errors

    @classmethod
    @contextmanager
    def running(cls, path: Path, env: dict[str, str], *args: str) -> Generator[Self]:
        """Start a program; it does not outlive the context."""
        # A file, because nobody reads a pipe while the program runs.
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(  # noqa: S603  # nosec B603
                [sys.executable, str(path), *args],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            ) as process,
        ):
            alarm = threading.Timer(_TIME_LIMIT_S, process.kill)
            alarm.start()
            try:
                yield cls(path.name, process, errors)
            finally:
                alarm.cancel()
                process.kill()

    def next_line(self) -> str:
        """Return the next line the program prints."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        return line.strip() or self._fail()

    def last_line(self) -> str:
        """Wait for the end of the program and return the last line it printed."""
        output, _ = self._process.communicate()
        lines = output.splitlines()
        if self._process.returncode or not lines:
            self._fail()
        return lines[-1]

    def terminate(self) -> None:
        """Ask the program to end."""
        self._process.terminate()

    def _fail(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        words = self._errors.read()[-2000:].strip()
        raise _FailedError(f"{self._name} ended with exit code {code}\n{words}")


def _ledgers(service: str, line: str) -> Iterator[_Ledger]:
    """Read what a program printed last: delivered and accepted records by signal."""
    try:
        counts: dict[str, tuple[int, int]] = json.loads(line)
        for signal in Signal:
            delivered, accepted = counts[signal]
            yield _Ledger(service, signal, delivered, accepted)
    except (ValueError, TypeError, KeyError) as error:
        raise _FailedError(f"{service} ended without a ledger: {line}") from error


# --- printing -------------------------------------------------------------------------


def _print_heading(output: TextIO, receiver: Receiver) -> None:
    output.write(
        "Two processes, shop and payments, serve three orders.\n"
        f"  shop      exports over gRPC to {receiver.grpc_endpoint}\n"
        f"  payments  exports over HTTP to {receiver.http_endpoint}\n"
        "What the receiver got:\n"
    )
    output.flush()


def _print_telemetry(output: TextIO, store: TelemetryStore, *, color: bool) -> None:
    parts = {
        "Traces": render_traces(store.resource_spans(), color=color),
        "Metrics": render_metrics(store.resource_metrics(), color=color),
        "Logs": render_logs(store.resource_logs(), color=color),
    }
    output.writelines(
        f"\n{title}\n{'-' * len(title)}\n{text}" for title, text in parts.items()
    )


def _agrees(ledgers: list[_Ledger], store: TelemetryStore) -> bool:
    """Whether everything was delivered, and the receiver holds exactly that."""
    return all(
        _held(ledger, store) == ledger.delivered == ledger.accepted > 0
        for ledger in ledgers
    )


def _held(ledger: _Ledger, store: TelemetryStore) -> int:
    return store.held_by_service(ledger.signal).get(ledger.service, 0)


def _print_comparison(
    output: TextIO, ledgers: list[_Ledger], store: TelemetryStore
) -> int:
    """Compare what the senders say with what the receiver holds."""
    output.write("\nLedger: what the senders say, and what the receiver holds\n")
    for ledger in sorted(ledgers, key=lambda each: list(Signal).index(each.signal)):
        verdict = "ok" if _agrees([ledger], store) else "MISMATCH"
        output.write(
            f"  {ledger.signal:<8} {ledger.service:<9} "
            f"delivered {ledger.delivered} of {ledger.accepted}, "
            f"received {_held(ledger, store)}: {verdict}\n"
        )
    if _agrees(ledgers, store):
        return 0
    output.write("The demo failed: the counts differ.\n")
    return 1
