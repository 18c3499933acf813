"""The outcome of an operation: a value or an error message, never an exception."""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, cast, final

from .errors import FlextObservabilityError

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
D = TypeVar("D")

_UNKNOWN_ERROR = "Unknown error"


@final
class FlextResult(Generic[T_co]):
    """Success with a value, or failure with a message.

    Immutable, hashable whatever it carries, and awaitable: ``await result`` gives the
    result itself without yielding to the event loop, so a plain and an awaited call
    read the same.

    Example:
        >>> match FlextResult[int].ok(3):
        ...     case FlextResult(True, value):
        ...         print(value)
        ...     case FlextResult(False, _, message):
        ...         print(message)
        3
    """

    __slots__ = ("_error", "_exception", "_value")
    __match_args__ = ("success", "data", "error")

    _value: T_co | None
    _error: str | None
    _exception: BaseException | None

    def __init__(
        self,
        value: T_co | None,
        error: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Use :meth:`ok` and :meth:`fail` instead.

        Args:
            value: What a success carries.
            error: The message of a failure; ``None`` makes a success.
            exception: The exception behind a failure, if there was one.
        """
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_error", error)
        object.__setattr__(self, "_exception", exception)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a result never changes."""
        message = f"FlextResult is immutable: cannot set {name!r}"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> None:
        """Refuse: a result never changes."""
        message = f"FlextResult is immutable: cannot delete {name!r}"
        raise AttributeError(message)

    # -- making one

    @classmethod
    def ok(cls, value: U) -> "FlextResult[U]":
        """Make a success.

        Args:
            value: What it carries; ``None`` is a value like any other.
        """
        return FlextResult(value)

    @classmethod
    def fail(
        cls, error: str | None, *, exception: BaseException | None = None
    ) -> "FlextResult[T_co]":
        """Make a failure, which may stand for a result of any type.

        Args:
            error: The message; ``None`` and ``""`` become ``"Unknown error"``.
            exception: The exception behind it, if there was one.
        """
        text = "" if error is None else _text_of(error)
        return FlextResult(None, text or _UNKNOWN_ERROR, exception)

    # -- asking it

    @property
    def success(self) -> bool:
        """Whether the operation succeeded."""
        return self._error is None

    @property
    def is_success(self) -> bool:
        """The same as :attr:`success`."""
        return self._error is None

    @property
    def failure(self) -> bool:
        """Whether the operation failed."""
        return self._error is not None

    @property
    def is_failure(self) -> bool:
        """The same as :attr:`failure`."""
        return self._error is not None

    def __bool__(self) -> bool:
        """Whether the operation succeeded."""
        return self._error is None

    @property
    def data(self) -> T_co:
        """The value of a success, ``None`` for a failure; never raises.

        Typed as the value, so that ``result.data.name`` reads well after a check of
        :attr:`success`.
        """
        return cast("T_co", self._value)

    @property
    def value(self) -> T_co:
        """The same as :attr:`data`."""
        return cast("T_co", self._value)

    @property
    def error(self) -> str | None:
        """The message of a failure, ``None`` for a success."""
        return self._error

    @property
    def exception(self) -> BaseException | None:
        """The exception behind a failure, ``None`` when there was none."""
        return self._exception

    # -- using it

    def unwrap(self) -> T_co:
        """Give the value of a success.

        Raises:
            FlextObservabilityError: The result is a failure (one of our subclasses when
                the exception behind it is one); the message is its error and the cause
                is its exception.
        """
        if self._error is None:
            return cast("T_co", self._value)
        kind = type(self._exception)
        # A class of the caller's may want other arguments than a message.
        is_ours = kind.__module__ == FlextObservabilityError.__module__
        if is_ours and issubclass(kind, FlextObservabilityError):
            raise kind(self._error) from self._exception
        raise FlextObservabilityError(self._error) from self._exception

    def unwrap_or(self, default: D) -> T_co | D:
        """Give the value of a success, also when it is ``None``, else ``default``."""
        return cast("T_co", self._value) if self._error is None else default

    def map(self, fn: Callable[[T_co], U]) -> "FlextResult[U]":
        """Apply ``fn`` to the value of a success.

        Args:
            fn: Takes the value. An ``Exception`` that it raises becomes a failure
                ``"<ExceptionType>: <text>"``; ``BaseException`` passes through.
        """
        if self._error is not None:
            return cast("FlextResult[U]", self)
        try:
            return FlextResult(fn(cast("T_co", self._value)))
        except Exception as error:  # noqa: BLE001 - any exception becomes the failure
            return _failure_of(error)

    def flat_map(self, fn: Callable[[T_co], "FlextResult[U]"]) -> "FlextResult[U]":
        """Apply ``fn``, which gives a result itself, to the value of a success.

        Args:
            fn: Takes the value, gives a ``FlextResult``. Exceptions as in :meth:`map`;
                anything but a ``FlextResult`` is a failure that says so.
        """
        if self._error is not None:
            return cast("FlextResult[U]", self)
        try:
            made: object = fn(cast("T_co", self._value))
        except Exception as error:  # noqa: BLE001 - any exception becomes the failure
            return _failure_of(error)
        if isinstance(made, FlextResult):
            return cast("FlextResult[U]", made)
        return FlextResult.fail(
            f"flat_map needs a function that returns FlextResult, "
            f"got {type(made).__name__}; use map for plain values"
        )

    def __await__(self) -> Generator[Any, Any, "FlextResult[T_co]"]:
        """Give the result itself, at once and any number of times."""
        return self
        yield  # makes this a generator, which is what `await` asks for

    # -- comparing and showing it

    def __eq__(self, other: object) -> bool:
        """Same outcome and equal value, or same outcome and equal error."""
        if not isinstance(other, FlextResult):
            return NotImplemented
        if self._error is not None or other._error is not None:
            return self._error == other._error
        theirs: object = cast("object", other._value)
        return bool(self._value == theirs)

    def __hash__(self) -> int:
        """Hash by outcome alone: a value may not be hashable, and equals may differ."""
        return hash(self._error)

    def __repr__(self) -> str:
        """Show the outcome."""
        if self._error is None:
            return f"FlextResult.ok({self._value!r})"
        return f"FlextResult.fail({self._error!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickle and copy, which would otherwise set attributes."""
        return FlextResult, (self._value, self._error, self._exception)


def _failure_of(error: Exception) -> "FlextResult[Any]":
    message = f"{type(error).__name__}: {_text_of(error)}"
    return FlextResult[Any].fail(message, exception=error)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a failing __str__ must not escape
        return "<unprintable>"
