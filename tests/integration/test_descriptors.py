"""The decorator over what a class holds beside functions: descriptors of any kind."""

import abc
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest

import flext_observability as fo

Decorate = Callable[[Any], Any]
WAYS: dict[str, Callable[[], Decorate]] = {
    "bare": lambda: fo.flext_monitor_function,
    "named": lambda: fo.flext_monitor_function("named"),
    "monitor": lambda: fo.FlextObservabilityMonitor("shop").function,
}


@pytest.fixture(params=WAYS)
def monitored(request: pytest.FixtureRequest) -> Decorate:
    """The decorator, in each of its forms."""
    return WAYS[request.param]()


@pytest.fixture
def handle() -> fo.FlextObservability:
    """The library, with everything kept in memory."""
    return fo.setup("shop", exporters=["memory"]).unwrap()


def names(handle: fo.FlextObservability) -> list[str]:
    """Names of the finished spans in order."""
    assert handle.memory is not None
    return [span.name for span in handle.memory.spans]


class Lazily:
    """A descriptor of another library: no function, no property."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self.function(owner)


class Slotted(property):
    """A property with a place that only its own constructor fills."""

    __slots__ = ("__dict__", "answer")

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(function)
        self.answer = 5

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self.answer


class Elsewhere(property):
    """A property that keeps its function in a place of its own."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self.function(owner)


class Stubborn(functools.cached_property[Any]):
    """A cached property whose inside is not to be looked at."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    def __get__(self, owner: Any, kind: Any = None) -> Any:  # type: ignore[override]
        return 5


@pytest.mark.parametrize("kind", [Lazily, Slotted, Elsewhere, Stubborn])
def test_what_cannot_be_monitored(
    monitored: Decorate, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A descriptor we know nothing of stays as it is, with one warning."""
    descriptor = kind(lambda _: 5)
    with caplog.at_level(logging.WARNING):
        assert monitored(descriptor) is descriptor
    (record,) = caplog.records
    assert record.getMessage() == (
        f"flext_monitor_function cannot monitor a {kind.__name__}; it stays as it is"
    )


def test_singledispatchmethod(monitored: Decorate) -> None:
    """A method with an implementation for each type works and takes more of them."""

    class Till:
        @monitored
        @functools.singledispatchmethod
        def pay(self, amount: object) -> str:
            raise PermissionError(amount)

        @pay.register  # type: ignore[untyped-decorator]
        def _(self, amount: int) -> str:
            return f"paid {amount}"

    till: Any = Till()
    assert till.pay(5) == "paid 5"
    with pytest.raises(PermissionError):
        till.pay("5")


def test_partialmethod(handle: fo.FlextObservability) -> None:
    """A partial method keeps its arguments; its calls are recorded."""

    class Till:
        def _close(self, how: str, *, by: str = "nobody") -> tuple[str, str]:
            return how, by

        @classmethod
        def _open(cls, how: str) -> tuple[str, str]:
            return cls.__name__, how

        gently: Any = functools.partialmethod(_close, "gently", by="Ann")
        close: Any = fo.flext_monitor_function(gently)
        early: Any = functools.partialmethod(_open, "early")
        open: Any = fo.flext_monitor_function("open")(early)

    till = Till()
    assert till.close() == ("gently", "Ann")
    assert till.close(by="Bob") == ("gently", "Bob")
    assert till.open() == Till.open() == ("Till", "early")
    close = "test_partialmethod.Till._close"
    assert names(handle) == [close, close, "open", "open"]


class OfTheClass(property):
    """A property that is asked for the class."""

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        assert self.fget is not None
        return self.fget(kind)


class Setting(property):
    """A property whose constructor wants other arguments than that of a property."""

    def __init__(self, *, read: Callable[[Any], Any], default: object) -> None:
        super().__init__(read, None, None, "How it is set.")
        self.default = default

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else (super().__get__(owner, kind), self.default)


class Named(functools.cached_property[Any]):
    """A cached property that knows more than its function."""

    def __init__(self, name: str, read: Callable[[Any], Any]) -> None:
        super().__init__(read)
        self.name = name

    def __get__(self, owner: Any, kind: Any = None) -> Any:  # type: ignore[override]
        return self.name, super().__get__(owner, kind)


class Marked(classmethod):  # type: ignore[type-arg]
    """A class method that knows more than its function."""

    def __init__(self, function: Callable[..., Any], mark: str) -> None:
        super().__init__(function)
        self.mark = mark


def test_subclasses(handle: fo.FlextObservability, monitored: Decorate) -> None:
    """What a subclass of a property, cached property or class method does, it does."""

    class Shop:
        @monitored
        @OfTheClass
        def table(self: Any) -> str:
            """The text."""
            return str(self.__name__).lower()

        size = monitored(Setting(read=lambda _: 1, default=2))
        till = monitored(Named("till", lambda _: 3))
        name = monitored(Marked(lambda cls: cls.__name__, "marked"))

    shop: Any = Shop()
    assert Shop.table == "shop"
    assert vars(Shop)["table"].__doc__ == "The text."
    assert shop.size == (1, 2)
    with pytest.raises(AttributeError):
        shop.size = 3
    assert shop.till == ("till", 3)
    assert Shop.name() == "Shop"
    assert vars(Shop)["name"].mark == "marked"
    assert len(names(handle)) == 4


def test_abstract(monitored: Decorate) -> None:
    """What is abstract stays so: the class cannot be made an object of."""

    class Shop(abc.ABC):
        @monitored  # type: ignore[prop-decorator]
        @property
        @abc.abstractmethod
        def size(self) -> int: ...

        @monitored
        @OfTheClass
        @abc.abstractmethod
        def table(self) -> int: ...

        @monitored
        @classmethod
        @abc.abstractmethod
        def name(cls) -> str: ...

        @abc.abstractmethod
        def _close(self, how: str) -> None: ...

        close = monitored(functools.partialmethod(_close, "gently"))

    assert Shop.__abstractmethods__ == {"size", "table", "name", "_close", "close"}
    with pytest.raises(TypeError, match="abstract"):
        Shop()  # type: ignore[abstract]
