"""R21: no telemetry about our own work, no recursion, few words about trouble."""

import collections
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.collector import (
    PROTOCOLS,
    Collector,
    Protocol,
    closed_port,
)
from tests.fixtures.programs import Ended, run_program

# The package that instruments need not be installed here, so this stands for the part
# of it by which exporters switch instruments off, and every instrument reads it so.
UTILS = """
import contextlib
from opentelemetry import context

_NAME = "suppress_instrumentation"

def is_instrumentation_enabled():
    return not context.get_value(_NAME)

@contextlib.contextmanager
def suppress_instrumentation():
    token = context.attach(context.set_value(_NAME, True))
    try:
        yield
    finally:
        context.detach(token)
"""

# Instruments as they are: they wrap the client before or after the library is loaded.
INSTRUMENTS = """
import logging, sys, time
from opentelemetry import context, trace

made = 0

def instrument(is_enabled):
    import http.client, grpc, requests

    def spanning(real, name):
        def call(*args, **kwargs):
            global made
            if not is_enabled():
                return real(*args, **kwargs)
            made += 1
            logging.getLogger("client").warning("request of %s", name)
            with trace.get_tracer("client").start_as_current_span(name):
                return real(*args, **kwargs)
        return call

    requests.Session.send = spanning(requests.Session.send, "requests")
    connection = http.client.HTTPConnection
    connection.putrequest = spanning(connection.putrequest, "http.client")

    class Interceptor(grpc.UnaryUnaryClientInterceptor):
        intercept_unary_unary = staticmethod(
            spanning(lambda go_on, details, request: go_on(details, request), "grpc")
        )

    for name in ("insecure_channel", "secure_channel"):
        real = getattr(grpc, name)
        setattr(grpc, name, lambda *args, _real=real, **kwargs: grpc.intercept_channel(
            _real(*args, **kwargs), Interceptor()
        ))

def api_allows():
    "What the SDK's own exporters set, and some instruments read themselves."
    return not context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY)

def package_allows():
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
    return is_instrumentation_enabled()

instrument(globals()[sys.argv[3]])
"""

SETUP = """
import logging, sys, time
import flext_observability as fo

settings = dict(endpoint=sys.argv[1], protocol=sys.argv[2], durability="memory")

def balance():
    for name, l in fo.status().signals.items():
        settled = l.delivered + l.rejected + sum(l.dropped.values())
        assert l.accepted == settled + l.pending, (name, l)

def begin(**more):
    return fo.setup("self", **(settings | more)).unwrap()

def idle(seconds):
    "Nothing of the program's own happens: tell from when to when."
    fo.flush(20.0).unwrap()
    began = time.monotonic()
    time.sleep(seconds)
    print("IDLE", began, time.monotonic(), flush=True)
"""


def run_self(
    collector: Collector, rest: str, *args: str, env: dict[str, str] | None = None
) -> Ended:
    """Run the program with that end."""
    text = SETUP + textwrap.dedent(rest)
    done = run_program(
        text, collector.endpoint, collector.protocol, *args, env=env, timeout_s=100
    )
    return done.ok()


def requests_while_idle(collector: Collector, ended: Ended) -> int:
    """Count what came while the program did nothing; one clock for all processes."""
    (line,) = (line for line in ended.lines if line.startswith("IDLE "))
    began, over = map(float, line.split()[1:])
    return sum(began < request.at < over for request in collector.requests())


INSTRUMENTED = """
begin()
with fo.flext_span("begun"):
    logging.getLogger("app").warning("begun")
idle({seconds})
balance()
import requests
own = made
try:
    requests.post("http://127.0.0.1:1/", timeout=1)
except OSError:
    pass
print("own", own, "program", made - own, flush=True)
fo.shutdown(5.0).unwrap()
balance()
"""


@pytest.mark.parametrize(
    ("reads", "seconds"),
    [
        ("package_allows", 2.0),
        pytest.param("api_allows", 2.0),
        pytest.param("package_allows", 10.0, marks=pytest.mark.slow),
        pytest.param("api_allows", 10.0, marks=pytest.mark.slow),
    ],
)
def test_instrumented_client(
    collector: Collector,
    reads: str,
    seconds: float,
    tmp_path: Path,
    figure: Callable[..., None],
) -> None:
    """An instrumented HTTP or gRPC client makes spans of the program's requests only.

    The package that instruments is absent for those that read the API's own key.
    """
    env: dict[str, str] = {}
    if reads == "package_allows":
        folder = tmp_path / "opentelemetry" / "instrumentation"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "utils.py").write_text(UTILS, "utf-8")
        env["PYTHONPATH"] = str(tmp_path)
    ended = run_self(
        collector,
        INSTRUMENTS + INSTRUMENTED.format(seconds=seconds),
        reads,
        env=env,
    )
    own, program = map(int, ended.lines[-1].split()[1::2])
    extra = requests_while_idle(collector, ended)
    figure(
        "R21",
        client=collector.protocol.partition("/")[0],
        key=reads.partition("_")[0],
        own_spans=own,
        requests_while_idle_s=f"{extra}/{seconds:g}",
    )
    assert own == 0
    assert extra == 0
    assert program >= 1
    names = {span.name for span in collector.spans()}
    assert names == {"begun", "requests", "http.client"}
    bodies = {log.body for log in collector.logs()}
    assert bodies == {"begun", *(f"request of {name}" for name in names - {"begun"})}


@pytest.mark.parametrize("seconds", [2.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_debug_of_client_libraries(
    collector: Collector, seconds: float, figure: Callable[..., None]
) -> None:
    """At DEBUG for every logger, what our client says about our requests is no log."""
    ended = run_self(
        collector,
        f"""
        handler = logging.StreamHandler(sys.stdout)
        logging.basicConfig(level=logging.DEBUG, handlers=[handler])
        for name in ("urllib3", "requests", "grpc", "opentelemetry", "asyncio"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        begin(log_level="DEBUG")
        with fo.flext_span("begun"):
            logging.getLogger("app").debug("begun")
        fo.flext_counter("begun").add(1)
        idle({seconds})
        fo.shutdown(5.0).unwrap()
        balance()
        """,
    )
    assert ended.stderr == ""
    extra = requests_while_idle(collector, ended)
    figure(
        "R21",
        logs_at="DEBUG",
        client=collector.protocol.partition("/")[0],
        requests_while_idle_s=f"{extra}/{seconds:g}",
    )
    assert extra == 0
    assert [log.body for log in collector.logs()] == ["begun"]
    assert [span.name for span in collector.spans()] == ["begun"]


def test_values_that_record(http_collector: Collector) -> None:
    """Values whose text is telemetry again, everywhere a value may stand."""
    run_self(
        http_collector,
        """
        import threading
        log = logging.getLogger("app")
        log.addHandler(logging.NullHandler())

        class Telling:
            "Makes telemetry with itself as a value, up to a depth."
            depth = 0
            def __str__(self):
                if Telling.depth < 3:
                    Telling.depth += 1
                    try:
                        log.warning("inside %s", self, extra={"value": self})
                        with fo.flext_span("inside", {"value": self}) as span:
                            span.add_event("inside", {"value": self})
                        fo.flext_counter("inside").add(1, {"value": self})
                        fo.flush(0)
                    finally:
                        Telling.depth -= 1
                return "told"
            __repr__ = __str__

        def work():
            told = Telling()
            with fo.flext_span("outside", {"value": told, "n": 1}) as span:
                span.set_attribute("later", told)
                span.add_event("outside", {"value": told})
            log.warning("outside %s", told, extra={"value": told})
            log.warning(told)
            fo.flext_counter("outside").add(1, {"value": told})
            try:
                raise ValueError(told)
            except ValueError:
                log.exception("failed")

        begin()
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(20)
            assert not worker.is_alive()
        fo.flush(20.0).unwrap()
        fo.shutdown(10.0).unwrap()
        balance()
        """,
    )
    spans = http_collector.spans("outside")
    assert len(spans) == 3
    for span in spans:
        assert (span.attributes["value"], span.attributes["n"]) == ("told", 1)
        assert span.attributes["later"] == "told"
    assert len(http_collector.spans("inside")) >= 3
    bodies = collections.Counter(log.body for log in http_collector.logs())
    assert bodies["outside told"] == bodies["told"] == bodies["failed"] == 3
    assert http_collector.metric("outside").value == 3


PARTS = """
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult,
)
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult,
    SimpleLogRecordProcessor,
)

SOON = {"schedule_delay_millis": 100}
log = logging.getLogger("app")
log.addHandler(logging.NullHandler())
said = 0

def say(text):
    global said
    said += 1
    log.warning("from the %s", text)

class TellingSpans(SpanProcessor):
    def on_start(self, span, parent_context=None):
        say("start")
    def on_end(self, span):
        say("end")
        if span.name == "begun":
            with fo.flext_span("from the processor"):
                pass

class TellingLogs(LogRecordProcessor):
    def on_emit(self, record):
        say("emit")
        with fo.flext_span("from the log processor"):
            pass
    def shutdown(self):
        say("shutdown")
    def force_flush(self, timeout_millis=30_000):
        say("flush")
        return True

class TellingSpanExporter(SpanExporter):
    def export(self, spans):
        say("span exporter")
        return SpanExportResult.SUCCESS

class TellingLogExporter(LogRecordExporter):
    def export(self, batch):
        say("log exporter")
        return LogRecordExportResult.SUCCESS
    def shutdown(self):
        pass
    def force_flush(self, timeout_millis=30_000):
        return True
"""


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param("span_processors=[TellingSpans()]", marks=pytest.mark.slow),
        pytest.param("log_record_processors=[TellingLogs()]", marks=pytest.mark.slow),
        "span_processors=[TellingSpans()], log_record_processors=[TellingLogs()]",
        pytest.param(
            "span_processors=[SimpleSpanProcessor(TellingSpanExporter())]",
            marks=pytest.mark.slow,
        ),
        "span_processors=[BatchSpanProcessor(TellingSpanExporter(), **SOON)]",
        "log_record_processors=[SimpleLogRecordProcessor(TellingLogExporter())]",
        "log_record_processors=[BatchLogRecordProcessor(TellingLogExporter(), **SOON)]",
    ],
    ids=["spans", "logs", "both", "span-1", "span-n", "log-1", "log-n"],
)
def test_parts_that_log(
    http_collector: Collector, parts: str, figure: Callable[..., None]
) -> None:
    """Processors and exporters that log are heard, and it comes to an end."""
    ended = run_self(
        http_collector,
        PARTS
        + f"""
begin({parts})
with fo.flext_span("begun"):
    log.warning("begun")
quiet_since, heard, deadline = time.monotonic(), said, time.monotonic() + 20
while time.monotonic() - quiet_since < 1.0 and time.monotonic() < deadline:
    time.sleep(0.05)
    if said != heard:  # their threads still speak, each of what the last one said
        quiet_since, heard = time.monotonic(), said
fo.flush(1.0)
before = said
idle(1.0)
print("SAID", said, said - before)
fo.shutdown(5.0)
balance()
""",
    )
    extra = requests_while_idle(http_collector, ended)
    said, late = map(int, ended.lines[-1].split()[1:])
    figure("R21", parts_that_log=said, requests_while_idle_s=f"{extra}/1")
    assert http_collector.span("begun")
    assert http_collector.log("begun")
    assert extra == 0, late
    assert 1 <= said <= 50
    assert "Traceback" not in ended.stderr


TROUBLE = """
logging.getLogger("app").addHandler(logging.NullHandler())
logging.getLogger("app").propagate = True
begin(durability=sys.argv[3], log_level="DEBUG", exit_budget_s=0.5)
end = time.monotonic() + float(sys.argv[4])
made = 0
while time.monotonic() < end:
    for _ in range(200):
        with fo.flext_span("lost"):
            pass
        logging.getLogger("app").debug("lost")
        made += 1
    fo.flush(0.05)  # each cuts the pause short, so there are many tries
print("MADE", made)
balance()
"""


@pytest.mark.parametrize(
    ("protocol", "durability", "seconds"),
    [
        ("grpc", "memory", 1.0),
        ("http/protobuf", "batch", 1.0),
        *(
            pytest.param(protocol, durability, 20.0, marks=pytest.mark.slow)
            for protocol in PROTOCOLS
            for durability in ("memory", "batch")
        ),
    ],
)
def test_one_line_about_trouble(
    protocol: Protocol, durability: str, seconds: float, figure: Callable[..., None]
) -> None:
    """Thousands of records for a closed port: one line for each kind of trouble."""
    address = f"http://127.0.0.1:{closed_port()}"
    ended = run_program(
        SETUP + TROUBLE,
        *(address, protocol, durability, str(seconds)),
        env={"OTEL_BSP_MAX_QUEUE_SIZE": "600", "OTEL_BLRP_MAX_QUEUE_SIZE": "600"},
        timeout_s=100,
    ).ok()
    made = int(ended.lines[-1].split()[1])
    # Numbers and names of signals apart, each line is said once.
    lines = [re.sub(r"\d+", "N", line) for line in ended.stderr.splitlines()]
    figure("R21", mode=durability, records=2 * made, lines=len(lines))
    assert made >= 1000
    assert lines
    assert max(collections.Counter(lines).values()) == 1, ended.stderr
    # The port, what a full queue drops (per signal), and what is left at the end.
    assert len(lines) <= 5, ended.stderr
    assert "Traceback" not in ended.stderr
