"""Trace entities and the tracing service, without any telemetry."""

import asyncio
import gc
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import flext_observability as fo

ID = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")
FOREIGN = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.fixture
def tracing() -> fo.FlextTracingService:
    return fo.FlextTracingService(fo.FlextContainer())


# --- the entity ---


def test_defaults() -> None:
    """A trace comes with ids, times and the configured service name."""
    trace = fo.FlextTrace(operation_name="load")
    assert ID.fullmatch(trace.id)
    assert trace.id == f"00-{trace.trace_id}-{trace.span_id}-01"
    assert (trace.status, trace.operation, trace.context) == ("pending", "load", {})
    assert trace.service_name == "flext-service"
    assert trace.timestamp is trace.start_time
    assert trace.start_time.tzinfo is UTC
    assert (trace.end_time, trace.error, trace.parent_trace_id) == (None, None, None)
    assert (trace.duration, trace.duration_ms) == (None, None)
    assert trace.validate_business_rules().success
    assert trace.validate_domain_rules().success
    assert trace.context is not fo.FlextTrace(operation_name="load").context


def test_service_name_of_setup() -> None:
    """A missing service name is the one in force."""
    fo.setup("orders", exporters=["none"]).unwrap()
    assert fo.FlextTrace(operation_name="load").service_name == "orders"
    assert fo.flext_create_trace("load").unwrap().service_name == "orders"


def test_service_name_with_a_broken_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Settings that cannot be read do not keep anybody from making a trace."""
    fo.FlextObservabilityConfig.reset_global_instance()
    monkeypatch.setenv("FLEXT_OBSERVABILITY_SAMPLE_RATIO", "7")
    assert fo.FlextTrace(operation_name="load").service_name == "flext-service"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operation_name": " "}, "Invalid operation name"),
        ({"operation_name": "", "service_name": ""}, "Invalid operation name"),
        ({"service_name": "\t"}, "Invalid service name"),
        ({"status": "done"}, "Invalid trace status"),
        ({"id": ""}, "Invalid trace ID"),
        ({"id": "x"}, "Invalid trace ID"),
        ({"id": FOREIGN.upper()}, "Invalid trace ID"),
        ({"id": f"00-{'0' * 32}-{'1' * 16}-01"}, "Invalid trace ID"),
        ({"id": f"00-{'1' * 32}-{'0' * 16}-01"}, "Invalid trace ID"),
        ({"id": FOREIGN, "trace_id": "12" * 16}, "Invalid trace ID"),
        ({"trace_id": "0" * 32}, "Invalid trace ID"),
        ({"span_id": "xyz"}, "Invalid trace ID"),
        ({"status": "x", "id": "x"}, "Invalid trace status"),
    ],
)
def test_rules(fields: dict[str, Any], message: str) -> None:
    """The first broken rule in field order gives the message."""
    trace = fo.FlextTrace(**{"operation_name": "load", **fields})
    assert trace.validate_business_rules().error == message
    with trace:  # nothing raises, and there is no span to be made
        assert trace.status == fields.get("status", "pending")


def test_wrong_types() -> None:
    """The constructor is a Pydantic one."""
    with pytest.raises(ValidationError):
        fo.FlextTrace.model_validate({"operation_name": 1})
    with pytest.raises(ValidationError):
        fo.FlextTrace.model_validate({"operation_name": "load", "colour": "red"})
    with pytest.raises(ValidationError):
        fo.FlextTrace.model_validate("load")


def test_own_ids() -> None:
    """Ids may be given: whole, or in parts."""
    whole = fo.FlextTrace(operation_name="load", id=FOREIGN)
    assert (whole.trace_id, whole.span_id) == ("ab" * 16, "cd" * 8)
    part = fo.FlextTrace(operation_name="load", trace_id="ab" * 16)
    assert part.id == f"00-{'ab' * 16}-{part.span_id}-01"
    for trace in (whole, part):
        before = trace.id
        with trace:
            assert trace.status == "running"
        assert trace.id == before


def test_status_words_in_any_case() -> None:
    """Words are kept lower-case."""
    assert fo.FlextTrace(operation_name="load", status="FAILED").status == "failed"


def test_parent() -> None:
    """The argument wins over the context; the trace is that of the parent."""
    other = f"00-{'12' * 16}-{'cd' * 8}-01"
    by_context = fo.FlextTrace(
        operation_name="load", context={"parent_trace_id": FOREIGN}
    )
    assert by_context.parent_trace_id == FOREIGN
    assert by_context.trace_id == "ab" * 16
    both = fo.FlextTrace(
        operation_name="load",
        context={"parent_trace_id": other},
        parent_trace_id=FOREIGN,
    )
    assert (both.parent_trace_id, both.trace_id) == (FOREIGN, "ab" * 16)
    assert both.context == {"parent_trace_id": other}
    none = fo.FlextTrace(operation_name="load", context={"parent_trace_id": None})
    assert none.parent_trace_id is None
    assert fo.FlextTrace(operation_name="a", parent_trace_id="").parent_trace_id is None


@pytest.mark.parametrize(
    ("parent", "is_taken"),
    [
        (FOREIGN, True),
        ("ab" * 16, True),
        ("AB" * 16, True),
        (f"01-{'ab' * 16}-{'cd' * 8}-01-more", True),
        (f"00-{'ab' * 16}-{'cd' * 8}-01-more", False),
        (f"ff-{'ab' * 16}-{'cd' * 8}-01", False),
        (f"00-{'ab' * 16}-{'00' * 8}-01", False),
        ("0" * 32, False),
        ("order-17", False),
    ],
)
def test_forms_of_a_parent(parent: str, *, is_taken: bool) -> None:
    """Headers of any version and trace ids lead to the trace, other text does not."""
    trace = fo.flext_create_trace("load", parent_trace_id=parent).unwrap()
    assert trace.parent_trace_id == parent
    assert (trace.trace_id == "ab" * 16) is is_taken


@given(st.text())
def test_any_text_as_parent(text: str) -> None:
    """No text breaks a trace."""
    made = fo.flext_create_trace("load", parent_trace_id=text)
    assert made.unwrap().validate_business_rules().success


@given(
    st.text(min_size=1).filter(str.strip),
    st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()),
)
def test_round_trip(name: str, context: dict[str, Any]) -> None:
    """A dump gives the same entity again."""
    context.pop("parent_trace_id", None)
    trace = fo.FlextTrace(operation_name=name, context=context)
    assert fo.FlextTrace.model_validate(trace.model_dump()) == trace
    assert fo.FlextTrace.model_validate_json(trace.model_dump_json()) == trace
    assert "emission" not in str(trace.model_dump().keys())


def test_block() -> None:
    """Leaving the block ends the trace, with or without an exception."""
    with fo.flext_create_trace("load").unwrap() as trace:
        assert trace.status == "running"
        time.sleep(0.01)
    assert trace.status == "completed"
    assert trace.duration is not None
    assert trace.duration >= 0.01
    assert trace.duration_ms == trace.duration * 1000
    assert trace.end_time == trace.start_time + timedelta(seconds=trace.duration)
    with trace:  # harmless
        pass
    assert trace.complete().error == "Trace already ended"
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, fo.FlextTrace(operation_name="a") as failed:
        raise error
    assert caught.value is error
    assert (failed.status, failed.error) == ("failed", "'x'")
    with pytest.raises(AssertionError), fo.FlextTrace(operation_name="a") as silent:
        raise AssertionError
    assert silent.error == "AssertionError"


def test_block_ended_inside() -> None:
    """Who ends a trace inside its block has the last word."""
    with fo.FlextTrace(operation_name="load") as trace:
        trace.fail("no").unwrap()
    assert (trace.status, trace.error) == ("failed", "no")


def test_async_block() -> None:
    """``async with`` is the same."""

    async def main() -> fo.FlextTrace:
        async with fo.FlextTrace(operation_name="load") as trace:
            inner = fo.flext_create_trace("inner").unwrap()
            assert inner.trace_id == trace.trace_id
        return trace

    assert asyncio.run(main()).status == "completed"


def test_block_in_a_closed_generator() -> None:
    """A caller who has seen enough is no failure."""

    def numbers(trace: fo.FlextTrace) -> Any:
        with trace:
            yield 1

    trace = fo.FlextTrace(operation_name="load")
    generator = numbers(trace)
    next(generator)
    generator.close()
    assert trace.status == "completed"


def test_start_time_of_the_caller() -> None:
    """A start that was given stays, and the end is not before it."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    trace = fo.FlextTrace(operation_name="load", start_time=past)
    future = fo.FlextTrace(
        operation_name="load", start_time=past + timedelta(minutes=2)
    )
    for one in (trace, future):
        one.begin()
        one.complete().unwrap()
    assert trace.start_time == past
    assert trace.duration is not None
    assert trace.duration >= 60
    assert future.duration == 0


def test_naive_times_are_utc() -> None:
    """Times are aware."""
    trace = fo.FlextTrace(operation_name="a", start_time=datetime(2026, 1, 2))  # noqa: DTZ001
    assert trace.start_time == datetime(2026, 1, 2, tzinfo=UTC)


# --- the service ---


def test_start_and_complete(tracing: fo.FlextTracingService) -> None:
    """Entities come back themselves, text gives an id."""
    trace = fo.FlextTrace(operation_name="load")
    assert tracing.start_trace(trace).unwrap() is trace
    assert tracing.start_trace(trace).unwrap() is trace
    assert trace.status == "running"
    done = tracing.complete_trace(trace).unwrap()
    assert done is trace
    assert done.end_time is not None
    assert done.duration is not None
    made = tracing.start_trace("import", "etl", {"n": 1}, FOREIGN).unwrap()
    assert ID.fullmatch(made)
    found = tracing.search_traces(operation_name="import").unwrap()[0]
    assert (found.id, found.service_name, found.context) == (made, "etl", {"n": 1})
    assert found.trace_id == "ab" * 16
    by_name = tracing.start_trace(name="x", parent_trace_id=made).unwrap()
    assert tracing.get_trace_info(made).unwrap()["child_traces"] == [by_name]


def test_awaited(tracing: fo.FlextTracingService) -> None:
    """Awaited calls give what plain ones do."""

    async def main() -> None:
        made = (await tracing.start_trace("load")).unwrap()
        assert (await tracing.error_trace(made, "no")).unwrap().error == "no"
        assert (await tracing.get_tracing_summary()).success

    asyncio.run(main())


def test_failures(tracing: fo.FlextTracingService) -> None:
    """Every failure is told in the contract's words."""
    calls: Any = tracing
    begun = "Trace validation failed: "
    assert tracing.start_trace("").error == f"{begun}Invalid operation name"
    assert tracing.start_trace("a", " ").error == f"{begun}Invalid service name"
    assert calls.start_trace(7).error == f"{begun}Invalid operation name"
    assert calls.start_trace(None).error == f"{begun}Invalid operation name"
    assert calls.start_trace("a", context=1).error.startswith(f"{begun}context: ")
    assert calls.start_trace().is_failure
    broken = fo.FlextTrace(operation_name="a", id="x")
    assert tracing.start_trace(broken).error == f"{begun}Invalid trace ID"
    for wanted in ("nope", FOREIGN, "12" * 16, ""):
        assert tracing.complete_trace(wanted).error == f"Trace '{wanted}' not found"
        assert tracing.error_trace(wanted, "x").error == f"Trace '{wanted}' not found"
        assert tracing.get_trace_info(wanted).error == f"Trace '{wanted}' not found"
    assert calls.complete_trace(None).error == "Trace 'None' not found"
    pending = fo.FlextTrace(operation_name="a")
    assert tracing.complete_trace(pending).error == f"Trace '{pending.id}' not found"
    ended = fo.FlextTrace(operation_name="a", status="completed")
    assert tracing.start_trace(ended).error == "Trace already ended"
    made = tracing.start_trace("a").unwrap()
    trace = tracing.complete_trace(made).unwrap()
    for again in (made, trace, trace.trace_id):
        assert tracing.complete_trace(again).error == "Trace already ended"
        assert tracing.error_trace(again, "x").error == "Trace already ended"
    assert tracing.start_trace(trace).error == "Trace already ended"
    assert calls.search_traces(limit="x").is_failure
    assert calls.search_traces(status=1).is_failure


def test_created_traces_count_as_started(tracing: fo.FlextTracingService) -> None:
    """By entity, by id or by trace id, in whatever container."""
    for wanted in ("itself", "id", "trace_id"):
        trace = fo.flext_create_trace("load").unwrap()
        argument: Any = trace if wanted == "itself" else getattr(trace, wanted)
        assert tracing.get_trace_info(trace.id).unwrap()["status"] == "running"
        assert tracing.complete_trace(argument).unwrap() is trace
        assert tracing.search_traces().unwrap()[0] is trace
    gone = fo.flext_create_trace("load").unwrap().id
    gc.collect()
    assert tracing.complete_trace(gone).error == f"Trace '{gone}' not found"


def test_rebuilt_entity_leads_to_the_running_one(
    tracing: fo.FlextTracingService,
) -> None:
    """Who has only a dump of a running trace can end it."""
    trace = fo.FlextTrace(operation_name="load")
    tracing.start_trace(trace).unwrap()
    rebuilt = fo.FlextTrace.model_validate(trace.model_dump())
    assert tracing.complete_trace(rebuilt).unwrap() is trace


def test_trace_id_means_the_oldest_running(tracing: fo.FlextTracingService) -> None:
    """A trace id ends the trace from the outside to the inside."""
    first = tracing.start_trace("first").unwrap()
    second = tracing.start_trace("second", parent_trace_id=first).unwrap()
    trace_id = first.split("-")[1]
    assert tracing.get_trace_info(trace_id).unwrap()["id"] == first
    assert tracing.complete_trace(trace_id).unwrap().id == first
    assert tracing.get_trace_info(trace_id.upper()).unwrap()["id"] == second
    assert tracing.complete_trace(trace_id).unwrap().id == second
    assert tracing.complete_trace(trace_id).error == "Trace already ended"
    assert tracing.get_trace_info(trace_id).unwrap()["id"] == first


def test_containers_share_nothing(tracing: fo.FlextTracingService) -> None:
    """What one container's service started is unknown to another's."""
    other = fo.FlextTracingService(fo.FlextContainer())
    made = tracing.start_trace("load").unwrap()
    assert other.complete_trace(made).error == f"Trace '{made}' not found"
    assert other.search_traces().unwrap() == []
    assert other.get_tracing_summary().unwrap()["service_info"]["traces_started"] == 0
    same = fo.FlextTracingService(tracing.container)
    assert same.complete_trace(made).success
    assert tracing.container.get("tracing_service").unwrap() is tracing


def test_trace_info(tracing: fo.FlextTracingService) -> None:
    """All fields, and the family."""
    parent = fo.FlextTrace(operation_name="parent", context={"n": 1})
    with tracing.start_trace(parent).unwrap():
        by_block = tracing.start_trace("by block").unwrap()
    by_id = tracing.start_trace("by id", parent_trace_id=parent.id).unwrap()
    grandchild = tracing.start_trace("grandchild", parent_trace_id=by_id).unwrap()
    tracing.start_trace("stranger").unwrap()
    info = tracing.get_trace_info(parent.id).unwrap()
    assert info == {
        **parent.model_dump(),
        "duration": parent.duration,
        "trace_spans": [parent.id, by_block, by_id, grandchild],
        "child_traces": [by_block, by_id],
    }
    assert set(fo.FlextTrace.model_fields) <= set(info)
    assert tracing.get_trace_info(parent).unwrap() == info


def test_search(tracing: fo.FlextTracingService) -> None:
    """The newest first, by any field."""
    for name, service in (("a", "x"), ("b", "y"), ("a", "y")):
        tracing.start_trace(name, service).unwrap()
    tracing.complete_trace(tracing.search_traces().unwrap()[0]).unwrap()

    def found(**wanted: Any) -> list[tuple[str, str]]:
        traces = tracing.search_traces(**wanted).unwrap()
        return [(one.operation_name, one.service_name) for one in traces]

    assert found() == [("a", "y"), ("b", "y"), ("a", "x")]
    assert found(limit=1) == [("a", "y")]
    assert found(limit=0) == []
    assert found(operation_name="a") == [("a", "y"), ("a", "x")]
    assert found(service_name="y", status="Running") == [("b", "y")]
    assert found(service_name="z") == []


def test_summary(tracing: fo.FlextTracingService) -> None:
    """Counted as things happen, whoever ends a trace."""
    empty = tracing.get_tracing_summary().unwrap()
    assert empty["performance_metrics"] == {
        "completion_rate": 0.0,
        "avg_duration_seconds": 0.0,
    }
    running = tracing.start_trace("running").unwrap()
    tracing.complete_trace(tracing.start_trace("done").unwrap()).unwrap()
    tracing.error_trace(tracing.start_trace("bad").unwrap(), "no").unwrap()
    with tracing.start_trace(fo.FlextTrace(operation_name="block")).unwrap():
        pass
    made = fo.FlextObservabilityMasterFactory(tracing.container).create_trace("made")
    summary = tracing.get_tracing_summary().unwrap()
    info = summary["service_info"]
    assert info.pop("uptime_seconds") >= 0
    assert info == {
        "traces_started": 5,
        "traces_completed": 2,
        "traces_failed": 1,
        "active_traces": 2,
    }
    assert summary["active_traces"] == [running, made.unwrap().id]
    assert summary["performance_metrics"]["completion_rate"] == 0.4
    assert summary["performance_metrics"]["avg_duration_seconds"] >= 0
    del made
    gc.collect()
    after = tracing.get_tracing_summary().unwrap()
    assert after["active_traces"] == [running]
    assert after["service_info"]["traces_failed"] == 1


def test_store_is_bounded(tracing: fo.FlextTracingService) -> None:
    """The newest 500 stay when the 1001st arrives; running ones end as dropped."""
    first = fo.FlextTrace(operation_name="first")
    tracing.start_trace(first).unwrap()
    for _ in range(999):
        tracing.start_trace("more").unwrap()
    assert first.status == "running"
    tracing.start_trace("one too many").unwrap()
    assert len(tracing.search_traces(limit=2000).unwrap()) == 501
    assert (first.status, first.error) == ("failed", "dropped")
    assert tracing.complete_trace(first).error == "Trace already ended"
    info = tracing.get_tracing_summary().unwrap()["service_info"]
    assert (info["traces_started"], info["active_traces"]) == (1001, 501)
    assert info["traces_failed"] == 0


# --- threads ---


def test_one_thread_ends_it(tracing: fo.FlextTracingService) -> None:
    """However many try to start or end a trace at once, it happens once."""
    barrier = threading.Barrier(8)
    for _ in range(20):
        trace = fo.FlextTrace(operation_name="load")

        def start_and_end(trace: fo.FlextTrace = trace) -> bool:
            barrier.wait(5)
            tracing.start_trace(trace)
            return tracing.complete_trace(trace).is_success

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(start_and_end) for _ in range(8)]
        assert [each.result() for each in done].count(True) == 1
        assert trace.status == "completed"
    info = tracing.get_tracing_summary().unwrap()["service_info"]
    assert (info["traces_started"], info["traces_completed"]) == (20, 20)
    assert info["active_traces"] == 0


def test_eight_threads(tracing: fo.FlextTracingService) -> None:
    """The service keeps its books under load."""

    def work(number: int) -> None:
        for turn in range(100):
            made = tracing.start_trace(f"{number}").unwrap()
            if turn % 2:
                tracing.complete_trace(made).unwrap()
            else:
                tracing.error_trace(made, "no").unwrap()
            tracing.search_traces(limit=3).unwrap()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(8)]:
            each.result()
    info = tracing.get_tracing_summary().unwrap()["service_info"]
    assert (info["traces_completed"], info["traces_failed"]) == (400, 400)


# --- copies and contexts ---


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_that_ends(tracing: fo.FlextTracingService, *, deep: bool) -> None:
    """Start and end of the span show on every entity that stands for it."""
    trace = fo.FlextTrace(operation_name="load")
    copied = trace.model_copy(deep=deep)
    tracing.start_trace(trace).unwrap()
    assert (copied.status, copied.start_time) == ("running", trace.start_time)
    assert copied.fail("no disk").success
    assert (trace.status, trace.error) == ("failed", "no disk")
    assert trace.end_time == copied.end_time is not None
    assert tracing.search_traces(status="running").unwrap() == []
    assert tracing.complete_trace(trace.id).is_failure


def test_a_copy_with_another_id_has_a_span_of_its_own() -> None:
    """It runs and ends without the entity that it was made of."""
    trace = fo.FlextTrace(operation_name="load")
    copied = trace.model_copy(update={"id": FOREIGN, "trace_id": "", "span_id": ""})
    copied.trace_id, copied.span_id = "ab" * 16, "cd" * 8
    with copied:
        assert trace.status == "pending"
    assert (trace.status, copied.status) == ("pending", "completed")
    with trace:
        assert trace.status == "running"


def test_with_blocks_of_two_tasks() -> None:
    """Each task leaves what it entered, in whatever order they leave."""
    trace = fo.FlextTrace(operation_name="load")
    seen: list[str] = []

    async def enter(until: asyncio.Event, then: asyncio.Event) -> None:
        with trace:
            await until.wait()
        seen.append(fo.flext_get_correlation_id())
        then.set()

    async def both() -> None:
        first, second, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        tasks = [
            asyncio.create_task(enter(first, second)),
            asyncio.create_task(enter(second, end)),
        ]
        await asyncio.sleep(0)
        first.set()
        await asyncio.gather(*tasks)

    asyncio.run(both())
    assert seen == ["", ""]


def test_with_blocks_of_two_threads() -> None:
    """Each thread leaves what it entered; the one that came first leaves first."""
    trace = fo.FlextTrace(operation_name="load")
    gate = threading.Barrier(2)
    gone = threading.Event()

    def enter(*, is_first: bool) -> str:
        with trace:
            gate.wait()
            if not is_first:
                gone.wait()
        gone.set()
        return fo.flext_get_correlation_id()

    with ThreadPoolExecutor(2) as pool:
        left = [pool.submit(enter, is_first=each) for each in (True, False)]
        assert [each.result() for each in left] == ["", ""]


def test_arguments_of_the_service(tracing: fo.FlextTracingService) -> None:
    """They have the names of the contract; wrong ones are told in public terms."""
    made = tracing.start_trace("load").unwrap()
    assert tracing.get_trace_info(id=made).success
    assert tracing.complete_trace(trace_or_id=made).success
    start: Any = tracing.start_trace
    assert start().error == "Trace validation failed: Invalid operation name"
    for wrong in (start("load", bogus=1), start("load", "a", None, None, "bogus")):
        assert wrong.error == "Trace validation failed: unknown argument: bogus"


def test_odd_keys_and_ids_are_no_exceptions() -> None:
    """A key of any type is taken as text; an id that is no text breaks the rule."""
    trace = fo.flext_create_trace("load", "etl").unwrap()
    assert trace.set_attribute([], 1).success  # type: ignore[arg-type]
    made = fo.FlextTrace(operation_name="load", service_name="etl")
    made.id = 5  # type: ignore[assignment]
    assert made.validate_business_rules().error == "Invalid trace ID"
