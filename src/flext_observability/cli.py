"""The command ``flext-observability``.

Everything beyond the parsing of arguments is imported by the command that needs it, so
that ``--help`` and ``--version`` answer at once.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from .constants import Signal

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from .web.otlp import ExportRequest

_EXIT_CANNOT_BEGIN: Final = 2
_PORT_LIMIT: Final = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 when all went well, 1 when the command failed, 2 when it could
        not begin.
    """
    options = _parser().parse_args(argv)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        # A terminal that cannot show a tree shows escapes instead of failing.
        reconfigure(errors="backslashreplace")
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flext-observability",
        description="Traces, metrics and logs over OTLP: see them on your own machine.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="run an example of two processes and show the telemetry that arrived",
    )
    demo.set_defaults(run=_demo)

    receive = commands.add_parser(
        "receive",
        help="receive OTLP on this machine and print what arrives",
        description="Receive OTLP over HTTP and gRPC on loopback and print it.",
    )
    for protocol, port in (("http", 4318), ("grpc", 4317)):
        receive.add_argument(
            f"--{protocol}-port",
            type=_port,
            default=port,
            metavar="PORT",
            help=f"port of OTLP/{protocol.upper()} (default: {port}; 0: any free one)",
        )
    receive.add_argument("--host", default="127.0.0.1", help="a loopback address")
    receive.add_argument(
        "--json", action="store_true", help="print OTLP JSON, one request per line"
    )
    receive.add_argument(
        "--seconds", type=float, metavar="N", help="stop after N seconds"
    )
    receive.set_defaults(run=_receive)

    drain = commands.add_parser(
        "drain",
        help="send what dead processes of a service left on disk",
        description="Send the records that processes of a service left on disk. Give "
        "its settings: OTEL_* and FLEXT_OBSERVABILITY_* variables count here too.",
        epilog="Exit code: 0 when nothing waits any more, also when nothing did; 1 "
        "when records still wait or were refused, and when that service never left "
        "any for that endpoint. What a living process holds, it sends itself.",
    )
    drain.add_argument("service", help="service.name of those processes")
    drain.add_argument("--endpoint", metavar="URL", help="their collector")
    drain.add_argument("--protocol", choices=("grpc", "http/protobuf"))
    drain.add_argument("--spool-dir", metavar="PATH", help="their spool_dir")
    drain.add_argument(
        "--seconds", type=float, default=60.0, metavar="N", help="longest time (60)"
    )
    drain.set_defaults(run=_drain)
    from . import probes
    from .stack import commands as stack

    probes.add_commands(commands.add_parser)
    stack.add_commands(commands.add_parser)
    return parser


class _Version(argparse.Action):
    """Prints the version, looked up only when somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_details: object) -> None:
        from . import __version__

        sys.stdout.write(f"flext-observability {__version__}\n")
        parser.exit()


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _PORT_LIMIT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to {_PORT_LIMIT})")


def _demo(options: argparse.Namespace) -> int:
    del options
    from .demo import run_demo

    return run_demo(sys.stdout, color=_wants_color())


def _receive(options: argparse.Namespace) -> int:
    from .web.receiver import Receiver
    from .web.store import TelemetryStore

    ended = threading.Event()
    printer = _Printer(as_json=options.json, ended=ended)
    try:
        receiver = Receiver(
            options.host,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
            store=TelemetryStore(record_limit=0),  # printed, so nothing is kept
            on_request=printer.request,
        )
        receiver.start()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"flext-observability: {error}\n")
        return _EXIT_CANNOT_BEGIN
    with _ending_on_signals(ended):
        printer.listening(receiver.http_endpoint, receiver.grpc_endpoint)
        ended.wait(options.seconds)
        receiver.stop()
        printer.ended(*(receiver.store.counts(each).received for each in Signal))
    return 0


def _drain(options: argparse.Namespace) -> int:
    from .drain import drain

    fields = {
        "endpoint": options.endpoint,
        "protocol": options.protocol,
        "spool_dir": options.spool_dir,
    }
    stated = {name: value for name, value in fields.items() if value is not None}
    result = drain(options.service, stated, options.seconds)
    if result.is_failure:
        sys.stderr.write(f"flext-observability: {result.error}\n")
        return 1
    sys.stdout.write(f"{result.data}\n")
    return 0


@contextmanager
def _ending_on_signals(ended: threading.Event) -> "Generator[None]":
    """Set the event on SIGINT and SIGTERM, and put the old handlers back."""

    def end(_number: int, _frame: "FrameType | None") -> None:
        ended.set()

    former = {
        number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Printer:
    """Prints what arrives, one request at a time, from whatever thread it comes.

    When nobody reads the output any more (``| head``), the command is told to end.
    """

    def __init__(self, *, as_json: bool, ended: threading.Event) -> None:
        self._as_json = as_json
        self._ended = ended
        self._lock = threading.Lock()
        self._color = _wants_color()

    def listening(self, http: str, grpc: str) -> None:
        """Announce where the receiver listens."""
        if self._as_json:
            self._write(_json_line({"listening": {"http": http, "grpc": grpc}}))
        else:
            self._write(f"listening: OTLP/HTTP on {http}, OTLP/gRPC on {grpc}\n")

    def request(self, signal_name: Signal, request: "ExportRequest") -> None:
        """Print one export request."""
        if self._as_json:
            from .web.otlp import request_to_json

            fields = request_to_json(request)
            self._write(_json_line({"signal": str(signal_name), "request": fields}))
        else:
            self._write(_readable(signal_name, request, color=self._color))

    def ended(self, spans: int, points: int, records: int) -> None:
        """Sum up for the person who reads."""
        if not self._as_json:
            words = f"spans {spans}, data points {points}, log records {records}"
            self._write(f"received: {words}\n")

    def _write(self, text: str) -> None:
        try:
            with self._lock:
                sys.stdout.write(text)
                sys.stdout.flush()
        except (BrokenPipeError, ValueError):
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._ended.set()


def _json_line(content: object) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"


def _readable(signal_name: Signal, request: "ExportRequest", *, color: bool) -> str:
    from ._pipeline import console

    renderers: dict[str, Callable[..., str]] = {
        "traces": console.render_traces,
        "metrics": console.render_metrics,
        "logs": console.render_logs,
    }
    groups = getattr(request, request.DESCRIPTOR.fields[0].name)
    return renderers[signal_name](groups, color=color)


def _wants_color() -> bool:
    """Colours for a terminal, unless its owner said no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
