"""Results: laws that hold for every value and every error."""

import asyncio
import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flext_observability as fo

Result = fo.FlextResult[Any]
VALUES = st.one_of(
    *(st.none(), st.integers(), st.text(), st.lists(st.integers())),
    *(st.dictionaries(st.text(), st.integers()), st.booleans()),
)
ERRORS = st.text(min_size=1)


def double(value: Any) -> list[Any]:
    return [value, value]


def wrapped(value: Any) -> fo.FlextResult[Any]:
    return Result.ok([value])


@given(VALUES)
def test_success(value: Any) -> None:
    """A success is one, whatever it carries, and gives its value every way."""
    result = Result.ok(value)
    assert result.success is result.is_success is bool(result) is True
    assert result.failure is result.is_failure is False
    assert result.data == result.value == result.unwrap() == value
    assert result.unwrap_or("default") == value
    assert result.error is None
    assert result.exception is None
    match result:
        case fo.FlextResult(success=True, data=found):
            assert found == value
        case _:
            pytest.fail("no match")


@given(ERRORS)
def test_failure(error: str) -> None:
    """A failure has no value, raises only when unwrapped, and calls no function."""
    result = Result.fail(error)
    assert result.success is result.is_success is bool(result) is False
    assert result.failure is result.is_failure is True
    assert result.data is result.value is None
    assert result.error == error
    assert result.unwrap_or("default") == "default"
    assert result.map(pytest.fail) == result.flat_map(pytest.fail) == result
    with pytest.raises(fo.FlextObservabilityError) as raised:
        result.unwrap()
    assert str(raised.value) == error
    match result:
        case fo.FlextResult(False, _, message):
            assert message == error
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("error", [None, ""])
def test_unknown_error(error: str | None) -> None:
    """A failure always says something."""
    assert Result.fail(error).error == "Unknown error"


@given(VALUES)
def test_map_laws(value: Any) -> None:
    """Identity and composition; flat_map has neutral elements and is associative."""
    result = Result.ok(value)
    assert result.map(lambda x: x) == result
    assert result.map(double).map(wrapped) == result.map(lambda x: wrapped(double(x)))
    assert result.flat_map(wrapped) == wrapped(value)
    assert result.flat_map(Result.ok) == result
    nested = result.flat_map(lambda x: wrapped(x).flat_map(wrapped))
    assert result.flat_map(wrapped).flat_map(wrapped) == nested


@given(VALUES, ERRORS)
def test_exceptions_become_failures(value: Any, text: str) -> None:
    """Of map and flat_map alike; what is no exception of the program passes."""
    error = ValueError(text)

    def fails(_: Any) -> Any:
        raise error

    for result in (Result.ok(value).map(fails), Result.ok(value).flat_map(fails)):
        assert result.error == f"ValueError: {text}"
        assert result.exception is error
        with pytest.raises(fo.FlextObservabilityError) as raised:
            result.unwrap()
        assert raised.value.__cause__ is error

    def interrupts(_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Result.ok(value).map(interrupts)


def test_an_error_that_cannot_be_shown() -> None:
    """It is a failure all the same."""

    class Silent(Exception):  # noqa: N818 - it says nothing
        def __str__(self) -> str:
            raise RuntimeError

    def fails(_: Any) -> Any:
        raise Silent

    assert Result.ok(1).map(fails).error == "Silent: <unprintable>"


def test_flat_map_wants_a_result() -> None:
    """Anything else is a failure that says so."""
    wrong: Any = double
    assert "FlextResult" in str(Result.ok(1).flat_map(wrong).error)


@given(VALUES, VALUES)
def test_equality_and_hash(one: Any, other: Any) -> None:
    """By outcome and content; equal ones have one hash, and any can be hashed."""
    left, right = Result.ok(one), Result.ok(other)
    assert (left == right) == (one == other)
    assert left != Result.fail("x")
    assert left != one
    assert Result.fail("x") == Result.fail("x", exception=ValueError())
    if left == right:
        assert hash(left) == hash(right)
    assert len({left, copy.copy(left), Result.fail("x"), Result.fail("x")}) == 2


@given(VALUES)
def test_it_never_changes(value: Any) -> None:
    """Nor do its copies differ."""
    result = Result.ok(value)
    anything: Any = result
    with pytest.raises(AttributeError):
        anything.data = 1
    with pytest.raises(AttributeError):
        anything.more = 1
    with pytest.raises(AttributeError):
        del anything.value
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own
    assert copy.deepcopy(result) == result
    assert repr(result) == f"FlextResult.ok({value!r})"


def test_awaited_again_and_again() -> None:
    """It gives itself without yielding, also to gather and wait_for."""
    result = Result.ok(3)

    async def main() -> None:
        assert await result is result
        assert await result is result
        failed, again = await asyncio.gather(Result.fail("x"), result)
        assert (failed.error, again) == ("x", result)
        assert await asyncio.wait_for(result, 1) is result

    asyncio.run(main())


def test_generic_at_run_time() -> None:
    """With any type in brackets, and as the bare class."""
    assert fo.FlextResult[list[fo.FlextMetric]].ok([]).success
    assert fo.FlextResult[None].ok(None).success
    assert fo.FlextResult[dict[str, object]].fail("x").is_failure
    assert fo.FlextResult.ok(1) == fo.FlextResult[object].ok(1)
    assert repr(fo.FlextResult.fail("x")) == "FlextResult.fail('x')"


class Own(fo.FlextObservabilityError):
    """An application's error with arguments of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")


def test_unwrap_with_an_error_class_of_the_caller() -> None:
    """It is the cause; what is raised is one of ours."""
    cause = Own(5, "no")
    with pytest.raises(fo.FlextObservabilityError, match="refused") as caught:
        fo.FlextResult[int].fail("refused", exception=cause).unwrap()
    assert caught.value.__cause__ is cause
    assert type(caught.value) is fo.FlextObservabilityError


def test_a_message_that_cannot_be_shown() -> None:
    """A failure never raises while it is made."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("hostile")

    message: Any = Hostile()
    assert fo.FlextResult[int].fail(message).error == "<unprintable>"
