"""Lines that go to a collector only take a short way; nobody can tell from outside."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

import flext_observability as fo
from tests.fixtures.collector import Collector
from tests.fixtures.hostile import VALUES
from tests.fixtures.library import assert_balanced, flush, start

TRACEPARENT = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
Way = Callable[[logging.Logger], object]


class Bystander(LogRecordProcessor):
    """Wants to see real log records, so that there must be some."""

    def __init__(self) -> None:
        self.bodies: list[object] = []
        self.ends = 0

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.bodies.append(log_record.log_record.body)

    def shutdown(self) -> None:
        self.ends += 1

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class Changing(logging.Filter):
    """Does something to records."""

    def __init__(self, change: Callable[[Any], object]) -> None:
        super().__init__()
        self._change = change

    def filter(self, record: logging.LogRecord) -> bool:
        self._change(record)
        return True


def changed(change: Callable[[Any], object]) -> Way:
    """A line whose record a filter of its logger changes."""

    def way(logger: logging.Logger) -> None:
        changing = Changing(change)
        logger.addFilter(changing)
        logger.warning("changed")
        logger.removeFilter(changing)

    return way


def failing(logger: logging.Logger) -> None:
    """A line about an exception."""
    try:
        dict[str, int]()["k"]
    except KeyError:
        logger.exception("failed")


def slimmed(record: Any) -> None:
    """As many attributes as before, but one of them is not of logging."""
    del record.threadName
    record.tenant = "t1"


def within(way: Way, **attributes: Any) -> Way:
    """A line in a context that says something about it."""

    def inside(logger: logging.Logger) -> None:
        with fo.FlextObservabilityMonitor("billing").context(**attributes):
            way(logger)

    return inside


def said(*arguments: Any, **extra: Any) -> Way:
    """A warning."""
    return lambda logger: logger.warning(*arguments, extra=extra or None)


WAYS: dict[str, Way] = {
    "text": said("plain"),
    "arguments": said("order %s of %d", "A-1", 7),
    "one mapping": said("%(a)s", {"a": 1}),
    "no arguments": said("100 % sure"),
    "wrong arguments": said("%d %d", "x"),
    "no text": said({"a": [1, None]}),
    "empty": said(""),
    "unicode": said("für %s ☃", "Jürgen"),
    "surrogate": said("a\ud800b"),
    "long": said("x" * 100_000),
    "long words": said("wörter " * 10_000),
    "secret": said("password=hunter2 for %s", "x@example.org"),
    "extra": said("extra", order="A-1", rows=3, share=0.5, done=True),
    "nested": said("nested", rows=[1, "a", None], map={"a": {"b": 1}}, none=None),
    "many": said("many", **{f"n{n}": n for n in range(200)}),
    "some": said("some", **{f"n{n}": n for n in range(125)}),
    "secret extra": said("secret", password="x", note="token=abcdefgh12345678"),  # noqa: S106 - it is the point
    "place": said("place", **{"code.line.number": 3, "code.function.name": "f"}),
    "own id": said("own", **{"correlation.id": "own"}),
    "error": failing,
    "stack": lambda logger: logger.error("stack", stack_info=True),
    "debug": lambda logger: logger.info("info"),
    "between": lambda logger: logger.log(35, "between"),
    "fatal": lambda logger: logger.critical("fatal"),
    "child": lambda _: alone("ä.b").warning("child"),
    "adapter": lambda logger: logging.LoggerAdapter(logger, {"a": 1}).warning("x"),
    "slimmed": changed(slimmed),
    "message set": changed(lambda record: setattr(record, "message", "set")),
    "added": changed(lambda record: setattr(record, "tenant", "t1")),
    "no path": changed(lambda record: setattr(record, "pathname", None)),
    "odd line": changed(lambda record: setattr(record, "lineno", "x")),
    "list of a path": changed(lambda record: setattr(record, "pathname", ["x"])),
    "level of another kind": changed(lambda record: setattr(record, "levelno", 30.5)),
    "no time": changed(lambda record: setattr(record, "created", 0.5)),
    "context": within(said("in context"), tenant="t1", order=7),
    "context, extra": within(said("in context", tenant="own"), tenant="t1"),
    "context, nested": within(said("in context"), tenant=["t1", "t2"]),
} | {f"hostile {name}": said("%s", value) for name, value in VALUES.items()}


def records(server: Collector) -> list[Any]:
    """The log records that arrived, without what depends on the moment."""
    found: list[Any] = []
    for request in server.requests("logs"):
        for resource in request.message.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    assert record.time_unix_nano
                    assert record.observed_time_unix_nano >= record.time_unix_nano
                    record.time_unix_nano = record.observed_time_unix_nano = 0
                    found.append((str(scope.scope), str(record)))
    server.clear()
    return found


@pytest.fixture
def logger() -> logging.Logger:
    """A logger whose lines nobody writes: pytest's handlers raise for wrong ones."""
    return alone("shop.lines")


def alone(name: str) -> logging.Logger:
    """A logger without a parent."""
    made = logging.Logger(name, logging.DEBUG)  # noqa: LOG001 - that is the point
    made.addHandler(logging.NullHandler())
    return made


def test_the_same_record_either_way(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """Whatever is logged, inside and outside of spans: the bytes are the same."""
    seen: list[list[Any]] = []
    for processors in ((), (Bystander(),)):
        start(http_collector, log_level="DEBUG", log_record_processors=processors)
        found: list[Any] = []
        for name, way in WAYS.items():
            way(logger)
            with fo.flext_correlation_scope("req-1"):
                way(logger)
            with fo.flext_correlation_scope("req-2", headers=TRACEPARENT):
                way(logger)
            flush()
            found.append((name, records(http_collector)))
        seen.append(found)
        assert_balanced("logs")
    for short, usual in zip(*seen, strict=True):
        assert len(short[1]) == 3, short
        assert short == usual


@pytest.mark.parametrize("field", ["created", "lineno", "funcName", "pathname"])
@pytest.mark.parametrize("name", VALUES)
def test_records_a_filter_spoilt(
    server: Collector, logger: logging.Logger, field: str, name: str
) -> None:
    """Whatever stands in a field of logging, the line arrives, and its neighbours."""
    logger.warning("before")
    changed(lambda record: setattr(record, field, VALUES[name]))(logger)
    logger.warning("after")
    flush()
    assert [log.body for log in server.logs()] == ["before", "changed", "after"]
    assert_balanced("logs")


def test_a_processor_added_later(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """Whoever adds a processor to the provider sees every line from then on."""
    from opentelemetry import _logs

    start(http_collector)
    logger.warning("before")
    bystander = Bystander()
    provider: Any = _logs.get_logger_provider()
    provider.add_log_record_processor(bystander)
    logger.warning("after %s", 1)
    flush()
    assert bystander.bodies == ["after 1"]
    assert [log.body for log in http_collector.logs()] == ["before", "after 1"]


def test_an_added_processor_stays(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """It sees every line once, also after another setup, until the end of it all."""
    from opentelemetry import _logs

    start(http_collector)
    bystander = Bystander()
    provider: Any = _logs.get_logger_provider()
    provider.add_log_record_processor(bystander)
    provider.add_log_record_processor(bystander)
    start(http_collector, environment="staging")
    logger.warning("after another setup")
    start(http_collector, logs_enabled=False)
    start(http_collector, log_record_processors=[bystander])
    logger.warning("given as well")
    flush()
    assert bystander.bodies == ["after another setup", "given as well"]
    fo.shutdown()
    assert bystander.ends == 1


def test_an_added_processor_that_raises(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """It harms neither the line nor the program."""
    from opentelemetry import _logs

    class Raises(Bystander):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            raise RuntimeError

    start(http_collector)
    provider: Any = _logs.get_logger_provider()
    provider.add_log_record_processor(Raises())
    logger.warning("all the same")
    flush()
    assert http_collector.log("all the same")
    assert_balanced("logs")


def test_lines_follow_the_pipeline(
    http_collector: Collector,
    second_collector: Collector,
    logger: logging.Logger,
) -> None:
    """After another setup lines go there; without one, nowhere; memory sees records."""
    start(http_collector)
    logger.warning("first")
    start(second_collector)
    logger.warning("second")
    fo.shutdown()
    logger.warning("nowhere")
    memory = fo.setup("shop", exporters=["memory"]).unwrap().memory
    logger.warning("kept")
    assert memory is not None
    assert [record.log_record.body for record in memory.logs] == ["kept"]
    assert [log.body for log in http_collector.logs()] == ["first"]
    assert [log.body for log in second_collector.logs()] == ["second"]


def test_arguments_are_read_at_once(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """What a program does to its objects later changes no line."""
    start(http_collector)
    rows = [1]
    logger.warning("rows %s", rows, extra={"rows": rows, "first": rows[0]})
    rows.append(2)
    flush()
    log = http_collector.log("rows [1]")
    assert tuple(log.attributes["rows"]) == (1,)


def test_a_line_within_a_line(
    http_collector: Collector, logger: logging.Logger
) -> None:
    """An argument that logs while it is written does not make the bridge recurse."""

    class Chatty:
        def __str__(self) -> str:
            logger.warning("inner")
            return "outer"

    start(http_collector)
    logger.warning("%s", Chatty())
    flush()
    assert [log.body for log in http_collector.logs()] == ["outer"]
