"""Where our own spans cannot be made, the SDK makes the same ones."""

import pytest

from tests.fixtures.collector import Collector
from tests.fixtures.programs import run_program

LINE = "code.line.number"
# Runs a program with spans of every kind, tells who made them, and what was said.
PROGRAM = """
import asyncio, logging, sys
{before}
import flext_observability as fo
from opentelemetry import trace
{after}
said = []
class Listener(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("flext_observability").addHandler(Listener())

for number in range(2):
    handle = fo.setup(
        "shop", endpoint=sys.argv[1], protocol="http/protobuf",
        resource_attributes={{"round": str(number)}}, logs_enabled=False, {options}
    ).unwrap()

@fo.flext_monitor_function("call")
def call():
    print(type(trace.get_current_span()).__name__)
    with fo.flext_span("block", attributes={{"a": 1}}) as span:
        span.add_event("e")

@fo.flext_monitor_function("coroutine")
async def coroutine():
    await asyncio.sleep(0)
    raise ValueError("no")

with trace.get_tracer("lib").start_as_current_span("outer", attributes={{"b": [1, 2]}}):
    call()
    try:
        asyncio.run(coroutine())
    except ValueError:
        pass
assert not trace.get_current_span().get_span_context().is_valid
assert fo.flush().success
ledger = fo.status().signals["traces"]
assert ledger.accepted == ledger.delivered == 4, ledger
print(len([line for line in said if "OpenTelemetry has changed" in line]))
"""

KEY = """
from opentelemetry import context, trace
plain = trace.set_span_in_context
def set_span_in_context(span, context=None):
    return plain(span, type(plain(span, context))({**plain(span, context), "more": 1}))
trace.set_span_in_context = set_span_in_context
"""
VARIABLE = """
from opentelemetry import context
attach, detach = context.attach, context.detach
class Wrapped:
    def __init__(self, token):
        self.token = token
context.attach = lambda new: Wrapped(attach(new))
context.detach = lambda wrapped: detach(wrapped.token)
"""
PROPERTY = """
from opentelemetry.sdk.trace import ReadableSpan
ReadableSpan.novelty = property(lambda self: self._novelty)
"""
RUNTIME_CONTEXT = """
import os, importlib.metadata as metadata
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
class Token:
    def __init__(self, token):
        self.token = token
class Own(ContextVarsRuntimeContext):
    def attach(self, context):
        return Token(super().attach(context))
    def detach(self, token):
        super().detach(token.token)
import opentelemetry.context as api
api._RUNTIME_CONTEXT = Own()
"""
SAMPLER = """
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
class Own(ParentBased):
    pass
"""


def run(
    collector: Collector,
    before: str = "",
    after: str = "",
    options: str = "",
    **variables: str,
) -> tuple[str, int]:
    """Give who made the spans, and how many lines say that OpenTelemetry changed."""
    program = PROGRAM.format(before=before, after=after, options=options)
    maker, lines = run_program(program, collector.endpoint, env=variables).ok().lines
    return maker, int(lines)


def seen(collector: Collector) -> list[tuple[object, ...]]:
    """What arrived, without ids, times and stacks."""
    by_id = {span.span_id: span.name for span in collector.spans()}
    told = [
        (
            span.name,
            by_id.get(span.parent_span_id, ""),
            span.kind,
            span.status,
            span.status_message,
            str(sorted((k, v) for k, v in span.attributes.items() if k != LINE)),
            [event.name for event in span.events],
        )
        for span in collector.spans()
    ]
    return sorted(told)


@pytest.fixture(scope="module")
def expected() -> list[tuple[object, ...]]:
    """What our own spans look like."""
    with Collector("http/protobuf") as collector:
        assert run(collector) == ("RecordingSpan", 0)
        return seen(collector)


@pytest.mark.parametrize("change", [KEY, VARIABLE, PROPERTY])
def test_changed_sdk(
    http_collector: Collector, expected: list[tuple[object, ...]], change: str
) -> None:
    """An SDK of another shape makes the spans itself, and one line says so."""
    assert run(http_collector, change) == ("GuardedSpan", 1)
    assert seen(http_collector) == expected


def test_chosen_runtime_context(
    http_collector: Collector, expected: list[tuple[object, ...]]
) -> None:
    """A runtime context of the user's choice takes the SDK's path without a word."""
    assert run(http_collector, RUNTIME_CONTEXT, OTEL_PYTHON_CONTEXT="own_context") == (
        "GuardedSpan",
        0,
    )
    assert seen(http_collector) == expected


def test_named_usual_context(
    http_collector: Collector, expected: list[tuple[object, ...]]
) -> None:
    """Naming the usual runtime context changes nothing."""
    assert run(http_collector, OTEL_PYTHON_CONTEXT="contextvars_context") == (
        "RecordingSpan",
        0,
    )
    assert seen(http_collector) == expected


def test_chosen_sampler(
    http_collector: Collector, expected: list[tuple[object, ...]]
) -> None:
    """A sampler of the user's own takes the SDK's path without a word."""
    found = run(http_collector, SAMPLER, options="sampler=Own(ALWAYS_ON)")
    assert found == ("GuardedSpan", 0)
    assert seen(http_collector) == expected


def test_chosen_self_metrics(
    http_collector: Collector, expected: list[tuple[object, ...]]
) -> None:
    """Whoever wants the SDK's metrics about itself gets spans that it counts."""
    variables = {"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true"}
    assert run(http_collector, **variables) == ("GuardedSpan", 0)
    assert seen(http_collector) == expected
