"""Containers, the bounded stores, and the round trip of every entity."""

import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import flext_observability as fo

# --- containers -----------------------------------------------------------------------


def test_names() -> None:
    """Taken, empty and unknown names are failures; replacing is asked for."""
    container = fo.FlextContainer()
    assert container.register("rate", 0.2).success
    assert "rate" in str(container.register("rate", 0.3).error)
    assert container.register("rate", 0.3, replace=True).success
    assert container.get("rate").data == 0.3
    for blank in ("", "  "):
        assert container.register(blank, 1).is_failure
    assert container.get("x").error == "Service 'x' not found"
    assert container.unregister("x").error == "Service 'x' not found"
    assert container.list_services() == ["rate"]
    assert container.unregister("rate").success
    assert not container.has("rate")


def test_factories() -> None:
    """They run once, at the first get; what they raise is that get's failure."""
    container = fo.FlextContainer()
    made: list[int] = []

    def make() -> object:
        made.append(1)
        if len(made) == 1:
            raise ValueError("not yet")
        return made

    container.register_factory("list", make).unwrap()
    assert not made
    assert container.has("list")
    assert "not yet" in str(container.get("list").error)
    assert container.get("list").data is container.get("list").data is made
    assert len(made) == 2
    wrong: Any = 3
    assert container.register_factory("x", wrong).is_failure


def test_types() -> None:
    """A service of another type is a failure that names both."""
    container = fo.FlextContainer()
    container.register("rate", 0.2).unwrap()
    assert container.get_typed("rate", float).data == 0.2
    error = str(container.get_typed("rate", str).error)
    assert "float" in error
    assert "str" in error
    assert container.get_typed("x", str).error == "Service 'x' not found"
    assert container.clear().success
    assert container.list_services() == []


def test_the_global_one() -> None:
    """The same for everybody until it is reset; services built on it keep theirs."""
    container = fo.FlextContainer.get_global()
    service = fo.FlextMetricsService()
    assert service.container is container
    service.record_metric("kept", 1).unwrap()
    fo.reset_global_factory()
    assert fo.FlextContainer.get_global() is not container
    assert service.get_metric_value("kept").success
    assert fo.FlextMetricsService().get_metric_value("kept").is_failure


# --- the bounded store ----------------------------------------------------------------


class StoreMachine(RuleBasedStateMachine):
    """A small store against a plain list that is cut the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.service = fo.FlextMetricsService(
            fo.FlextContainer(), metrics_store_limit=7, metrics_store_cleanup=3
        )
        self.model: list[fo.FlextMetric] = []
        self.all: list[fo.FlextMetric] = []

    @rule(name=st.sampled_from("ab"), value=st.integers(0, 9))
    def record(self, name: str, value: int) -> None:
        metric = self.service.record_metric(name, value, metric_type="counter").unwrap()
        if len(self.model) == 7:
            self.model = self.model[-3:]
        self.model.append(metric)
        self.all.append(metric)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def record_again(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(self.all))
        self.service.record_metric(again.model_copy()).unwrap()

    @rule()
    def reset(self) -> None:
        self.service.reset_metrics().unwrap()
        self.model, self.all = [], []

    @invariant()
    def newest_are_held(self) -> None:
        assert self.service.get_metrics().unwrap() == self.model[::-1]
        assert len(self.service._metrics_store) == len(self.model)
        assert list(self.service._metrics_store) == [m.id for m in self.model]
        for metric in self.model:
            assert metric.id in self.service._metrics_store
            assert self.service._metrics_store[metric.id] == metric

    @invariant()
    def totals_know_all(self) -> None:
        for name in "ab":
            values = [float(m.value) for m in self.all if m.name == name]
            result = self.service.get_metric_value(name)
            assert result.data == (sum(values) if values else None)


TestStore = settings(max_examples=40, stateful_step_count=30, deadline=None)(
    StoreMachine
).TestCase


def test_eight_threads_fill_one_store() -> None:
    """It never holds more than its limit, and every service sees the same."""
    container = fo.FlextContainer()
    sizes: list[int] = []

    def fill() -> None:
        for number in range(300):
            service = fo.FlextMetricsService(container)
            service.record_metric(f"n{number}", number).unwrap()
            sizes.append(len(service._metrics_store))

    threads = [threading.Thread(target=fill) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(sizes) <= 1000
    assert len(sizes) == 2400


# --- entities -------------------------------------------------------------------------

TEXT = st.text()
TAGS = st.dictionaries(TEXT, TEXT, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)
DETAILS = st.dictionaries(TEXT, JSON, max_size=3)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.decimals(
    allow_nan=False, allow_infinity=False
)
FIELDS: dict[type[fo.FlextEntity], dict[str, st.SearchStrategy[Any]]] = {
    fo.FlextMetric: {
        "name": TEXT,
        "value": NUMBERS,
        "unit": TEXT,
        "tags": TAGS,
        "timestamp": MOMENTS,
    },
    fo.FlextAlert: {
        "name": TEXT,
        "severity": TEXT,
        "message": TEXT,
        "tags": TAGS,
        "details": DETAILS,
    },
    fo.FlextHealthCheck: {
        "name": TEXT,
        "status": TEXT,
        "message": TEXT,
        "details": DETAILS,
    },
    fo.FlextLogEntry: {
        "level": TEXT,
        "message": TEXT,
        "context": DETAILS,
        "timestamp": MOMENTS,
    },
    fo.FlextTrace: {
        "operation_name": TEXT,
        "service_name": TEXT,
        "context": DETAILS,
    },
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_round_trip(kind: type[fo.FlextEntity], data: st.DataObject) -> None:
    """Any entity can be built, dumped and rebuilt as it was; Decimal exactly."""
    entity = kind(**data.draw(st.fixed_dictionaries(FIELDS[kind])))
    rebuilt = type(entity).model_validate(entity.model_dump())
    assert rebuilt == entity
    assert rebuilt.id == entity.id
    if isinstance(entity, fo.FlextMetric):
        assert type(rebuilt.value) is type(entity.value)  # type: ignore[attr-defined]
        if isinstance(entity.value, Decimal):
            text = entity.model_dump_json()
            assert fo.FlextMetric.model_validate_json(text).value == entity.value
    result = entity.validate_business_rules()
    assert result == entity.validate_domain_rules()
    assert result.success or str(result.error).startswith("Invalid ")


@given(name=TEXT, value=st.floats() | st.integers() | st.booleans() | TEXT)
def test_creation_agrees_with_the_rules(name: Any, value: Any) -> None:
    """A creation function never raises, and makes exactly what the rules allow."""
    result = fo.flext_create_metric(name, value)
    is_number = not isinstance(value, bool | str)
    is_finite = is_number and abs(value) < float("inf")
    allowed = bool(name.strip()) and len(name) <= 255 and is_finite
    assert result.success == allowed


class HostileError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("hostile")


def test_a_container_never_raises() -> None:
    """Names that are no text, types that are none, errors that cannot be shown."""
    container = fo.FlextContainer()
    container.register("rate", 0.2).unwrap()
    wrong: Any
    for wrong in (None, 5, [], HostileError()):
        for refused in (
            container.register(wrong, 1),
            container.register_factory(wrong, list),
        ):
            assert str(refused.error).startswith("Invalid service name")
        assert not container.has(wrong)
        assert str(container.get(wrong).error).endswith("not found")
        assert str(container.unregister(wrong).error).endswith("not found")
    assert container.list_services() == ["rate"]
    for wrong in (5, list[int]):
        assert "TypeError" in str(container.get_typed("rate", wrong).error)

    def make() -> object:
        raise HostileError

    container.register_factory("bad", make).unwrap()
    assert str(container.get("bad").error).endswith("HostileError: <unprintable>")


def test_a_slow_factory_stops_nobody_else() -> None:
    """Others use the container meanwhile; who wants its service waits and shares it."""
    container = fo.FlextContainer()
    container.register("fast", 1).unwrap()
    begun, may_end = threading.Event(), threading.Event()
    made: list[object] = []

    def make() -> object:
        begun.set()
        assert may_end.wait(10)
        made.append(object())
        return made[-1]

    container.register_factory("slow", make).unwrap()
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(container.get("slow").data))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    fast: list[object] = []
    other = threading.Thread(target=lambda: fast.append(container.get("fast").data))
    other.start()
    other.join(5)
    assert fast == [1]
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert got == made * 3
