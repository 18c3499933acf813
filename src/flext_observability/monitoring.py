"""The decorator: every call of a function is recorded."""

import functools
import inspect
import sys
import time
import types
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import runtime
from ._pipeline.executors import MONITORED_MARK
from ._pipeline.interrupts import is_of_host
from ._pipeline.measurements import PENDING_LIMIT
from ._pipeline.values import clean_text
from .calls import (
    Call,
    CountedCall,
    abandon,
    begin,
    begin_steps,
    call_otherwise,
    count_call,
    finish,
)
from .descriptors import DESCRIPTORS, rebuilt_around
from .failures import error_type_of, result_error_type
from .operation import Caller, Operation
from .own_log import WARNING, say
from .result import FlextResult

if TYPE_CHECKING:
    from ._pipeline.pipeline import Pipeline

_clock_ns = time.perf_counter_ns
# Compared by identity; as a plain type it narrows nothing for type checkers.
_RESULT: type[object] = FlextResult
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")


@overload
def flext_monitor_function(operation_name: F, /) -> F: ...


@overload
def flext_monitor_function(
    operation_name: str | None = None,
    *,
    metric_name: str | None = None,
    capture_args: Sequence[str] = (),
    record_exception: bool = True,
    attributes: Mapping[str, Any] | None = None,
    kind: str = "internal",
) -> Callable[[F], F]: ...


def flext_monitor_function(
    operation_name: Any = None,
    *,
    metric_name: str | None = None,
    capture_args: Sequence[str] = (),
    record_exception: bool = True,
    attributes: Mapping[str, Any] | None = None,
    kind: str = "internal",
) -> Any:
    """Record every call of a function: a span, its duration, its outcome.

    Works on functions, coroutine functions, generators, async generators, methods,
    static and class methods, and keeps kind, signature and metadata. The value comes
    back unchanged, an exception is re-raised as the same object.

    The span of a generator lasts until the generator ends and is current only while it
    runs, never for its caller. What the generator itself makes current across a
    ``yield``, baggage or a span of its own, its caller sees as without the decorator.

    Use it bare or with arguments: ``@flext_monitor_function``,
    ``@flext_monitor_function("place_order", kind="server")``.

    Args:
        operation_name: Name of span and metric label; the function's qualified name
            when not given.
        metric_name: Another name for the histogram ``flext.operation.duration``
            (seconds).
        capture_args: Names of parameters that go on the span as ``arg.<name>``.
        record_exception: Whether message and stack of an exception are recorded.
        attributes: Further span attributes; never on metrics.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, DESCRIPTORS):
            rebuilt = rebuilt_around(function, decorate)
            if rebuilt is not None:
                return rebuilt
        elif callable(function):
            operation = Operation(
                function,
                name,
                metric_name=metric_name,
                capture_args=capture_args,
                record_exception=record_exception,
                attributes=attributes,
                kind=kind,
                choose=_caller,
            )
            wrapper = _wrap(function, operation)
            setattr(wrapper, MONITORED_MARK, True)
            return wrapper
        say(
            WARNING,
            "flext_monitor_function cannot monitor a %s; it stays as it is",
            type(function).__name__,
        )
        return function

    bare = is_bare(operation_name)
    name = None if bare or operation_name is None else clean_text(operation_name)
    return decorate(operation_name) if bare else decorate


def is_bare(given: object) -> bool:
    """Whether a decorator was used bare: it was given what it stands over, no name."""
    # Whatever stands in a class and is no function is a descriptor, of any library.
    return callable(given) or hasattr(type(given), "__get__")


def _wrap(function: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _wrap_async_generator(function, operation)
    # An object is called through its class: `async def __call__` counts too.
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - not asking if callable
    ):
        return _wrap_coroutine(function, operation)
    if inspect.isgeneratorfunction(function):
        wrapper = _wrap_generator(function, operation)
        # Generators that may be awaited, of `types.coroutine`, stay so.
        is_awaitable = function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE
        return types.coroutine(wrapper) if is_awaitable else wrapper
    return _wrap_function(function, operation)


def _wrap_function(
    function: Callable[..., Any], operation: Operation
) -> Callable[..., Any]:
    # All that stands in the closure can be sent by value: see `Operation.__reduce__`.
    clock_ns = _clock_ns

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = operation.call
        if call is not None:
            return call(function, operation, args, kwargs)
        # There is no pipeline: the call is only counted, right here, since one more
        # call would take a sixth of the whole.
        began_ns = clock_ns()
        try:
            value: Any = function(*args, **kwargs) if kwargs else function(*args)
        except BaseException as error:
            count_call(operation, clock_ns() - began_ns, error_type_of(error))
            raise
        duration_ns = clock_ns() - began_ns
        series = operation.succeeded
        pending = series.pending
        if (
            type(value) is _RESULT
            or duration_ns > series.high
            or len(pending) >= PENDING_LIMIT
        ):
            count_call(operation, duration_ns, result_error_type(value))
        else:  # as in `series.add`, without the call
            pending.append(duration_ns)
        return value

    return wrapper


def _caller(operation: Operation) -> Caller | None:
    """Say how a plain function is called now; ``None`` where there is no pipeline."""
    if operation.shape is not None:
        return _spanned.load()
    return call_otherwise if runtime.is_running() else None


class _Spanned:
    """How a function is called that has a span of our own: loaded by ``setup()``.

    An import in another thread, while the program forks, would leave the child a lock
    that nobody releases.
    """

    def follow(self, pipeline: "Pipeline | None") -> None:
        """Load it where the pipeline makes such spans."""
        if pipeline is not None and pipeline.tracing is not None:
            self.load()

    @staticmethod
    def load() -> Caller:
        """Load it, and give it."""
        from .spanned_calls import call_spanned

        return call_spanned


_spanned = _Spanned()
runtime.follow(_spanned)


def _wrap_coroutine(
    function: Callable[..., Any], operation: Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        shape = operation.shape
        if shape is None:
            return await _await_otherwise(function, operation, args, kwargs)
        try:
            span, token = operation.start(shape)
        except Exception as trouble:  # telemetry never stops the host's call
            if is_of_host(trouble):
                raise
            return await _await_otherwise(function, operation, args, kwargs)
        try:
            began_ns = _clock_ns()
            try:
                value = await (function(*args, **kwargs) if kwargs else function(*args))
            except GeneratorExit:  # closed before its end; whoever did it knows why
                finish(operation, span, token, _clock_ns() - began_ns, None)
                raise
            except BaseException as error:
                finish(operation, span, token, _clock_ns() - began_ns, None, error)
                raise
            finish(operation, span, token, _clock_ns() - began_ns, value)
        except BaseException:
            if not span.ended_ns:
                abandon(span, token)
            raise
        return value

    return wrapper


async def _await_otherwise(
    function: Callable[..., Any],
    operation: Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Await a coroutine function where no span of our own can be made."""
    call = begin(operation, args, kwargs)
    call.resume()
    try:
        value = await function(*args, **kwargs)
    except GeneratorExit:  # closed before its end; whoever did it knows why
        call.succeed()
        raise
    except BaseException as error:
        call.fail(error)
        raise
    call.succeed(value)
    return value


def _wrap_generator(
    function: Callable[..., Any], operation: Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)  # wrong arguments begin no call
        call = begin_steps(operation, args, kwargs)
        # What the caller did last: sent a value or threw an exception.
        step: Callable[[Any], Any] = generator.send
        given: Any = None
        while True:
            call.resume()
            try:
                items = [step(given)]
            except StopIteration as stop:
                call.succeed(stop.value)
                return stop.value
            except BaseException as error:
                call.fail(error)
                raise
            call.suspend()
            given = None  # suspended, we keep nothing alive, nor the item below
            try:
                given = yield items.pop()
                step = generator.send
            except GeneratorExit:
                _close(generator, call)
                raise
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the generator
                step, given = generator.throw, thrown

    return wrapper


def _close(generator: Generator[Any, Any, Any], call: Call | CountedCall) -> None:
    """Close a generator early; a caller who has seen enough is no failure."""
    call.resume()
    try:
        generator.close()
    except BaseException as error:
        call.fail(error)
        raise
    call.succeed()


def _wrap_async_generator(
    function: Callable[..., Any], operation: Operation
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)  # wrong arguments begin no call
        call = begin_steps(operation, args, kwargs)
        step: Callable[[Any], Any] = functools.partial(_first_step, generator)
        given: Any = None
        while True:
            call.resume()
            try:
                items = [await step(given)]
            except StopAsyncIteration:
                call.succeed()
                return
            except BaseException as error:
                _end(call, error)
                raise
            call.suspend()
            given = None  # suspended, we keep nothing alive, nor the item below
            try:
                given = yield items.pop()
                step = generator.asend
            except GeneratorExit:
                await _aclose(generator, call)
                raise
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the generator
                step, given = generator.athrow, thrown

    return wrapper


async def _aclose(
    generator: AsyncGenerator[Any, Any], call: Call | CountedCall
) -> None:
    """Close an async generator early; a caller who has seen enough is no failure."""
    call.resume()
    try:
        await generator.aclose()
    except BaseException as error:
        _end(call, error)
        raise
    call.succeed()


def _end(call: Call | CountedCall, error: BaseException) -> None:
    """End the call of an async generator that an exception has left.

    It failed, unless somebody closed it and the program ended meanwhile: the loop
    cancels the task in which it closes a generator that was left early.
    """
    if isinstance(error, GeneratorExit) or _is_closed_by_loop(error):
        call.succeed()
    else:
        call.fail(error)


def _is_closed_by_loop(error: BaseException) -> bool:
    loops = sys.modules.get("asyncio")
    if loops is None or not isinstance(error, loops.CancelledError):
        return False
    with suppress(RuntimeError):  # there may be a loop of another kind
        task = loops.current_task()
        # Of `aclose()` itself, where the task of a program runs a coroutine.
        coroutine = None if task is None else task.get_coro()
        return type(coroutine).__name__ == "async_generator_athrow"
    return False


def _first_step(generator: AsyncGenerator[Any, Any], given: None) -> Any:
    """Start the inner generator unseen by the event loop.

    A loop that shuts down closes every generator it knows, all at once. It knows ours,
    which closes the one inside; closing that one too would fail, being under way.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(given)
    finally:
        sys.set_asyncgen_hooks(*hooks)
