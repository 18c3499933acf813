"""S17: decorators show arguments only by name, results never, and redact both."""

import asyncio
from typing import Any

import pytest

import flext_observability as fo
from tests.faults.test_s01_secrets import CANARY, leaks, received
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush, start


def test_nothing_by_default(
    collector: Collector, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither arguments nor results nor locals leave, however the call ends."""
    start(collector, log_level="DEBUG")

    @fo.flext_monitor_function
    def plain(secret: str, *more: str, **named: str) -> str:
        local = f"{secret}{more}{named}"
        return local + secret

    @fo.flext_monitor_function("async")
    async def later(secret: str) -> str:
        return secret

    @fo.flext_monitor_function("generator")
    def many(secret: str) -> Any:
        yield secret

    @fo.flext_monitor_function("failing")
    def failing(secret: str) -> None:
        raise ValueError(len(secret))

    class Service:
        def __init__(self, secret: str) -> None:
            self.secret = secret

        @fo.flext_monitor_function
        def method(self, secret: str) -> str:
            return secret

        def __repr__(self) -> str:
            return self.secret

    assert plain(CANARY, CANARY, x=CANARY)
    assert asyncio.run(later(CANARY)) == CANARY
    assert list(many(CANARY)) == [CANARY]
    assert Service(CANARY).method(CANARY) == CANARY
    with pytest.raises(ValueError, match=r"\d"):
        failing(CANARY)
    with pytest.raises(TypeError):
        failing(CANARY, CANARY)  # type: ignore[call-arg]  # a wrong call, on purpose
    flush()
    assert len(collector.spans()) == 6
    assert leaks(received(collector)) == []
    assert leaks("".join(capfd.readouterr())) == []


def test_by_name(collector: Collector) -> None:
    """Only the parameters that were named are shown."""
    start(collector)

    @fo.flext_monitor_function("pay", capture_args=("currency",))
    def pay(card: str, currency: str, *, note: str = CANARY) -> str:
        return card + currency + note

    pay(CANARY, "EUR")
    flush()
    attributes = collector.span("pay").attributes
    assert attributes["arg.currency"] == "EUR"
    assert [name for name in attributes if name.startswith("arg.")] == ["arg.currency"]
    assert leaks(received(collector)) == []


def test_redaction_applies(collector: Collector) -> None:
    """A named parameter is redacted by its name and by what it holds."""
    start(collector)

    @fo.flext_monitor_function(
        "login", capture_args=("user", "password", "url", "options", "rest")
    )
    def login(
        user: str, password: str, url: str, options: dict[str, str], **rest: str
    ) -> str:
        return f"{user}{password}{url}{options}{rest}"

    login(
        "bob",
        CANARY,
        f"https://bob:{CANARY}@shop.test/?token={CANARY}",
        {"api_key": CANARY, "page": "2"},
        secret=CANARY,
    )
    flush()
    attributes = collector.span("login").attributes
    assert attributes["arg.user"] == "bob"
    assert attributes["arg.password"] == "[redacted]"
    assert attributes["arg.url"] == "https://bob:[redacted]@shop.test/?token=[redacted]"
    assert attributes["arg.options"] == {"api_key": "[redacted]", "page": "2"}
    assert attributes["arg.rest"] == {"secret": "[redacted]"}
    assert leaks(received(collector)) == []


def test_exceptions_of_a_monitored_function(collector: Collector) -> None:
    """Message and stack are redacted; with record_exception off there are none."""
    start(collector)

    @fo.flext_monitor_function("shown")
    def shown(secret: str) -> None:
        message = f"token={secret} refused for bob"
        raise ValueError(message)

    @fo.flext_monitor_function("hidden", record_exception=False)
    def hidden(secret: str) -> None:
        message = f"{secret} refused"
        raise ValueError(message)

    for function in (shown, hidden):
        with pytest.raises(ValueError, match="refused"):
            function(CANARY)
    flush()
    assert collector.span("shown").status_message.endswith(
        "token=[redacted] refused for bob"
    )
    assert not collector.span("hidden").events
    assert leaks(received(collector)) == []


def test_names_that_are_no_parameters(collector: Collector) -> None:
    """A name that is no parameter shows nothing, and the call works."""
    start(collector)

    @fo.flext_monitor_function("odd", capture_args=("nothing", "self", "0", ""))
    def odd(secret: str) -> int:
        return len(secret)

    assert odd(CANARY) == len(CANARY)
    flush()
    attributes = collector.span("odd").attributes
    assert not [name for name in attributes if name.startswith("arg.")]
