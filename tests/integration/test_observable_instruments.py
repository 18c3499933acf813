"""Instruments that ask the program for figures: which of them are one and the same."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Meter, Observation

import flext_observability as fo
from tests.fixtures.hostile import Endless, Raises


@pytest.fixture
def handle() -> fo.FlextObservability:
    """The library, with everything kept in memory."""
    return fo.setup("shop", exporters=["memory"]).unwrap()


def figures(handle: fo.FlextObservability) -> dict[str, list[float]]:
    """The values that are exported, by name."""
    assert fo.flush().success
    assert handle.memory is not None
    if handle.memory.metrics is None:
        return {}
    return {
        metric.name: [point.value for point in metric.data.data_points]  # type: ignore[union-attr]
        for resource in handle.memory.metrics.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("pool.")
    }


class Pool(Raises):
    """Can be asked for nothing but its size."""

    def size(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(3)]

    def size_of(self, kind: object, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(4, {"kind": str(kind)})]


@dataclass
class Named:
    """Two of them are equal, and look the same."""

    name: str

    def size(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(5)]


def test_owner_that_raises(handle: fo.FlextObservability) -> None:
    """The object whose method is the callback is asked for nothing else."""
    pool = Pool()
    handle.meter.create_observable_gauge("pool.size", [pool.size])
    handle.meter.create_observable_counter("pool.kind", [partial(pool.size_of, pool)])
    assert figures(handle)["pool.size"] == [3]


def test_equal_callbacks(handle: fo.FlextObservability) -> None:
    """An instrument made on every call is one: the process does not grow."""
    pool, found = Pool(), [Observation(7)]
    callbacks: list[Callable[[], Any]] = [
        lambda: pool.size,
        lambda: partial(pool.size_of, "own"),
        lambda: partial(Pool.size_of, pool, kind=pool),
        lambda: found.__getitem__,
        lambda: test_equal_callbacks,
    ]
    for number, callback in enumerate(callbacks):
        made = [
            handle.meter.create_observable_gauge(f"other.{number}", [callback()])
            for _ in range(3)
        ]
        assert made[0] is made[1] is made[2]


def test_other_callbacks(handle: fo.FlextObservability) -> None:
    """Methods of two objects are two callbacks, however equal the objects are."""
    first, second = Named("a"), Named("a")
    method: Any = Pool.size_of
    callbacks: list[Any] = [
        first.size,
        second.size,
        partial(method, first),
        partial(method, second),
        partial(method, kind=1),
        partial(method, kind=True),
        partial(method, more=1),
    ]
    made = [handle.meter.create_observable_gauge("pool", [each]) for each in callbacks]
    assert len({id(each) for each in made}) == len(callbacks)


@pytest.mark.parametrize("given", [7, Raises(), lambda _: []])
def test_callbacks_that_are_no_list(
    handle: fo.FlextObservability, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no list of callbacks raises nothing, and is told."""
    with caplog.at_level(logging.WARNING):
        handle.meter.create_observable_gauge("pool.size", given)
    assert figures(handle) == {}
    (record,) = caplog.records
    assert record.getMessage().startswith("an instrument wants a list of callbacks")


def bounded(meter: Meter, bounds: Any) -> object:
    """Give a histogram with bounds."""
    return meter.create_histogram(
        "pool.wait", explicit_bucket_boundaries_advisory=bounds
    )


def test_bounds(handle: fo.FlextObservability) -> None:
    """Histograms of the same bounds are one; bounds that are none raise nothing."""
    of = partial(bounded, handle.meter)
    assert of([1, 2]) is of((1.0, 2.0))
    assert of([1, 2]) is not of([1])
    assert of([]) is not of(None)
    for bounds in (Raises(), Endless(), [Raises()], 7, ["a"]):
        assert of(bounds) is of(bounds)
