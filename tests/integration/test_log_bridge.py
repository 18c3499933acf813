"""The application's own logging goes out too, and stays as it was."""

import asyncio
import io
import logging
import logging.config
import sys
import warnings
from collections.abc import Iterator

import pytest
from opentelemetry import _logs
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggingHandler

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start
from tests.fixtures.programs import Ended, run_program


def program(collector: Collector, source: str) -> Ended:
    """Run a program whose environment points to the collector."""
    return run_program(
        source,
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
            # How long the exit may take is another test's.
            "FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "20",
        },
    ).ok()


def test_record(collector: Collector) -> None:
    """A log line carries its text, severity, ids, place in the code and extras."""
    start(collector)
    logger = logging.getLogger("shop.orders")
    with fo.flext_correlation_scope("req-1"), fo.flext_span("work"):
        logger.warning("order %s of %d", "A-1", 7, extra={"order_id": "A-1", "rows": 3})
    flush()
    log, span = collector.log("order A-1 of 7"), collector.span("work")
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    assert log.severity_number == 13
    assert log.severity.startswith("WARN")
    assert log.attributes["correlation.id"] == "req-1"
    assert log.attributes["order_id"] == "A-1"
    assert log.attributes["rows"] == 3
    assert log.attributes["code.file.path"] == __file__
    assert log.attributes["code.function.name"].endswith("test_record")
    assert log.attributes["code.line.number"] > 0
    assert log.scope == "shop.orders"
    assert span.start_ns <= log.time_ns <= span.end_ns


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (logging.INFO, 9),
        (logging.WARNING, 13),
        (logging.ERROR, 17),
        (logging.CRITICAL, 21),
        (25, 9),
        (35, 13),
    ],
)
def test_severities(server: Collector, level: int, number: int) -> None:
    """Levels become OTel severities, those between the named ones too."""
    logger = logging.getLogger("levels")
    logger.setLevel(logging.DEBUG)
    logger.log(level, "line")
    flush()
    assert number <= server.log("line").severity_number < number + 4


def test_log_level_bounds_what_leaves(http_collector: Collector) -> None:
    """Below log_level nothing leaves the process."""
    start(http_collector, log_level="ERROR")
    logger = logging.getLogger("levels")
    logger.setLevel(logging.DEBUG)
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)(level)
    flush()
    assert [log.body for log in http_collector.logs()] == ["error", "critical"]


def test_exception(server: Collector) -> None:
    """An exception logged is on the record: type, message and stack."""
    try:
        _ = dict[str, int]()["missing"]
    except KeyError:
        logging.getLogger("x").exception("failed")
    flush()
    attributes = server.log("failed").attributes
    assert attributes["exception.type"] == "KeyError"
    assert attributes["exception.message"] == "'missing'"
    assert "test_exception" in attributes["exception.stacktrace"]


def test_structured_message(server: Collector) -> None:
    """A message that is no text arrives, and its structure or text with it."""
    logging.getLogger("x").warning({"order": 1})
    flush()
    (log,) = server.logs()
    assert log.body in ({"order": 1}, "{'order': 1}")


def test_bad_format_arguments(
    server: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line whose arguments do not fit raises nothing and hurts no neighbour."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    root = logging.getLogger()
    # Pytest's own handlers would fail the test on a bad format.
    others = [h for h in root.handlers if "pytest" in type(h).__module__]
    for handler in others:
        root.removeHandler(handler)
    try:
        logging.getLogger("x").warning("%d apples", "many")
        logging.getLogger("x").warning("neighbour")
    finally:
        for handler in others:
            root.addHandler(handler)
    flush()
    assert server.log("neighbour")


def test_extra_with_a_name_of_ours(server: Collector) -> None:
    """Extras that look like our own fields do not forge trace or span."""
    with fo.flext_span("work"):
        logging.getLogger("x").warning(
            "line", extra={"trace_id": "f" * 32, "otelTraceID": "f" * 32}
        )
    flush()
    assert server.log("line").trace_id == server.span("work").trace_id


def test_in_tasks(server: Collector) -> None:
    """Records of concurrent tasks belong to the span of their own task."""

    @fo.flext_monitor_function("work")
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        fo.flext_add_attributes(me=name)
        logging.getLogger("x").warning(name)

    async def main() -> None:
        await asyncio.gather(*(work(f"n{n}") for n in range(5)))

    asyncio.run(main())
    flush()
    for span in server.spans("work"):
        assert server.log(span.attributes["me"]).span_id == span.span_id


def test_no_duplicates_after_another_setup(
    collector: Collector, second_collector: Collector
) -> None:
    """However often setup is called, a line arrives once, at the latest place."""
    start(collector)
    start(collector)
    start(second_collector)
    start(second_collector, "other")
    logging.getLogger("x").warning("once")
    flush()
    assert second_collector.log("once")
    assert not collector.logs()


def test_undone_by_shutdown(http_collector: Collector) -> None:
    """After shutdown the logging module is as it was before setup."""
    root = logging.getLogger()
    before = (
        list(root.handlers),
        root.level,
        list(root.filters),
        logging.lastResort,
        logging.getLoggerClass(),
        logging.getLogRecordFactory(),
        logging.raiseExceptions,
        logging.basicConfig,
        logging.config.dictConfig,
        logging.config.fileConfig,
        logging.Logger.handle,
        logging.Logger.callHandlers,
    )
    start(http_collector)
    logging.getLogger("x").warning("during")
    fo.shutdown(20.0).unwrap()
    logging.getLogger("x").warning("after")
    assert before == (
        list(root.handlers),
        root.level,
        list(root.filters),
        logging.lastResort,
        logging.getLoggerClass(),
        logging.getLogRecordFactory(),
        logging.raiseExceptions,
        logging.basicConfig,
        logging.config.dictConfig,
        logging.config.fileConfig,
        logging.Logger.handle,
        logging.Logger.callHandlers,
    )
    assert [log.body for log in http_collector.logs()] == ["during"]


@pytest.mark.parametrize("disable", ["True", "False"])
def test_survives_dict_config(http_collector: Collector, disable: str) -> None:
    """Logging configured after setup keeps both: its own output and ours."""
    ended = program(
        http_collector,
        f"""
        import logging, logging.config
        import flext_observability as fo
        fo.setup("shop").unwrap()
        logging.getLogger("early").warning("early line")
        logging.config.dictConfig({{
            "version": 1,
            "disable_existing_loggers": {disable},
            "formatters": {{"f": {{"format": "APP %(message)s"}}}},
            "handlers": {{"h": {{"class": "logging.StreamHandler", "formatter": "f"}}}},
            "root": {{"level": "INFO", "handlers": ["h"]}},
        }})
        logging.getLogger("app").info("after dictConfig")
        """,
    )
    assert ended.stderr.splitlines().count("APP after dictConfig") == 1
    assert http_collector.log("early line")
    assert http_collector.log("after dictConfig")


@pytest.mark.parametrize("force", ["True", "False"])
def test_survives_basic_config(http_collector: Collector, force: str) -> None:
    """BasicConfig after setup works as if the library were not there."""
    ended = program(
        http_collector,
        f"""
        import logging
        import flext_observability as fo
        fo.setup("shop").unwrap()
        logging.basicConfig(level=logging.INFO, format="APP %(message)s", force={force})
        logging.getLogger("app").info("after basicConfig")
        """,
    )
    assert ended.stderr.splitlines().count("APP after basicConfig") == 1
    assert http_collector.log("after basicConfig")


def test_configured_before_setup(http_collector: Collector) -> None:
    """Logging configured before setup goes on as it was."""
    ended = program(
        http_collector,
        """
        import logging
        logging.basicConfig(level=logging.INFO, format="APP %(message)s")
        import flext_observability as fo
        fo.setup("shop").unwrap()
        logging.getLogger("app").info("hello")
        """,
    )
    assert ended.stderr.splitlines().count("APP hello") == 1
    assert http_collector.log("hello")


@pytest.mark.parametrize(
    "configuration", ["", "logging.basicConfig(format='APP %(message)s')"]
)
def test_stderr_of_the_program_stays(
    http_collector: Collector, configuration: str
) -> None:
    """What a program that chose no level shows on stderr is as without the library."""
    source = """
        import logging
        {setup}
        {configuration}
        logging.getLogger("app").info("too quiet")
        logging.getLogger("app").warning("loud")
        logging.getLogger("app").info("still too quiet")
        """
    setup = "import flext_observability as fo; fo.setup('shop').unwrap()"
    plain = program(
        http_collector, source.format(setup="", configuration=configuration)
    )
    with_library = program(
        http_collector, source.format(setup=setup, configuration=configuration)
    )
    assert plain.stderr == with_library.stderr
    assert plain.stderr.endswith("loud\n")
    assert http_collector.log("loud")


def test_module_level_logging(http_collector: Collector) -> None:
    """``logging.warning`` configures logging at first use, with the library too."""
    ended = program(
        http_collector,
        """
        import logging
        import flext_observability as fo
        fo.setup("shop").unwrap()
        logging.warning("hello")
        """,
    )
    assert ended.stderr == "WARNING:root:hello\n"
    assert http_collector.log("hello")


def test_debug_root_never_recurses(collector: Collector) -> None:
    """With everything logged at DEBUG, exporting causes no records of its own."""
    ended = program(
        collector,
        """
        import logging
        logging.basicConfig(level=logging.DEBUG)
        import flext_observability as fo
        fo.setup("shop", log_level="DEBUG").unwrap()
        for number in range(3):
            logging.getLogger("app").debug("line %d", number)
            with fo.flext_span("x"):
                pass
            assert fo.flush(5.0).success
        """,
    )
    assert [log.body for log in collector.logs() if log.scope == "app"] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    noisy = {log.scope for log in collector.logs()} - {"app"}
    assert not {
        name
        for name in noisy
        if name.startswith(("urllib3", "grpc", "opentelemetry", "requests", "flext"))
    }
    assert len(ended.stderr) < 10_000


def test_no_warning_of_deprecation(http_collector: Collector) -> None:
    """The bridge causes none of the SDK's warnings of deprecation."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(http_collector)
        logging.getLogger("x").warning("hello")
        flush()
    assert http_collector.log("hello")


def test_non_propagating_logger(server: Collector) -> None:
    """A logger that does not propagate is its owner's business, as ever."""
    logger = logging.getLogger("private")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("private line")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert stream.getvalue() == "private line\n"
    flush()
    assert len(server.logs("private line")) <= 1


def test_logs_switched_off(http_collector: Collector) -> None:
    """Without logs the logging module is left alone."""
    handlers = list(logging.getLogger().handlers)
    start(http_collector, logs_enabled=False)
    logging.getLogger("x").warning("hello")
    flush()
    assert list(logging.getLogger().handlers) == handlers
    assert not http_collector.requests("logs")


def test_raising_extra(server: Collector) -> None:
    """An extra whose text cannot be made hurts nobody."""

    class Raises:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    logging.getLogger("x").warning("line", extra={"bad": Raises()})
    logging.getLogger("x").warning("neighbour")
    flush()
    assert server.log("line")
    assert server.log("neighbour")
    assert sys.exc_info() == (None, None, None)


@pytest.fixture
def handled() -> Iterator[logging.Logger]:
    """A logger with OpenTelemetry's own handler, set up before the library is."""
    logger = logging.getLogger("handled")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the one of the SDK moves to another package
        handler = LoggingHandler()
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_beside_the_handler_of_opentelemetry(
    collector: Collector, handled: logging.Logger
) -> None:
    """A line arrives once although OpenTelemetry's handler sends it as well."""
    start(collector)
    handled.warning("paid %s", 7)
    handled.getChild("below").warning("child")
    handled.warning({"structured": [1, 2]}, extra={"deep": [1, {"a": 2}]})
    try:
        int("no number")
    except ValueError:
        handled.exception("failed")
    logging.getLogger("elsewhere").warning("elsewhere")
    flush()
    for body in ("paid 7", "child", {"structured": [1, 2]}, "failed", "elsewhere"):
        assert collector.log(body)
    assert fo.status().signals["logs"].accepted == len(collector.logs()) == 5


def test_handler_of_opentelemetry_takes_more(
    http_collector: Collector, handled: logging.Logger
) -> None:
    """What is below our level arrives when that handler sends it, as before."""
    start(http_collector, log_level="ERROR")
    handled.setLevel(logging.DEBUG)
    handled.debug("for the handler")
    handled.error("for both")
    flush()
    bodies = [log.body for log in http_collector.logs()]
    assert bodies == ["for the handler", "for both"]


def test_handler_of_opentelemetry_takes_less(
    http_collector: Collector, handled: logging.Logger
) -> None:
    """A level or filter of that handler does not take lines from us."""
    start(http_collector)
    handled.handlers[0].setLevel(logging.ERROR)
    handled.handlers[0].addFilter(lambda record: "secret" not in record.getMessage())
    handled.warning("below its level")
    handled.error("a secret")
    handled.error("for both")
    flush()
    bodies = [log.body for log in http_collector.logs()]
    assert bodies == ["below its level", "a secret", "for both"]


class Chatty(logging.Handler):
    """Logs while it handles a line, as the clients of log servers do."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "handled.client":
            logging.getLogger("handled.client").warning("sending %s", record.msg)


def test_handler_that_logs(http_collector: Collector, handled: logging.Logger) -> None:
    """Lines arrive once each, also those that are written while one is handled."""
    start(http_collector)
    chatty = Chatty()
    handled.handlers.insert(0, chatty)
    handled.warning("line")
    handled.removeHandler(chatty)
    flush()
    assert sorted(str(log.body) for log in http_collector.logs()) == [
        *("line", "sending line")
    ]


class Audits(logging.Handler):
    """Makes records of its own of a line."""

    def emit(self, record: logging.LogRecord) -> None:
        moment = int(record.created * 1e9)
        for name in ("audit", record.name):
            at = moment if name == "audit" else moment + 1
            made = LogRecord(timestamp=at, body=f"{name}: {record.msg}")
            _logs.get_logger(name).emit(made)


def test_handler_that_makes_other_records(http_collector: Collector) -> None:
    """What a handler says besides the line itself, or elsewhere, arrives."""
    start(http_collector)
    logger, audits = logging.getLogger("shop"), Audits()
    logger.addHandler(audits)
    logger.warning("line")
    logger.removeHandler(audits)
    flush()
    bodies = sorted(str(log.body) for log in http_collector.logs())
    assert bodies == ["audit: line", "line", "shop: line"]
