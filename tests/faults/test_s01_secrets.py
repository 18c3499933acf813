"""S1: secrets leave by no door, and what stood around them stays readable.

A canary is planted in every place a program can put one; afterwards it is looked for
in everything that left or stayed behind.
"""

import io
import json
import logging
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.view import View
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

import flext_observability as fo
from tests.fixtures.collector import Collector, closed_port
from tests.fixtures.library import assert_balanced, flush, start

CANARY = "k4n4ry-9f8e7d6c5b4a"
# A canary in the shape of each thing that is recognised by its shape alone.
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.{CANARY}"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----"
BASIC = "Basic dXNlcjprNG40cnktOWY4ZTdkNmM1YjRh"  # user:k4n4ry-9f8e7d6c5b4a
TOKENS = {
    "jwt": JWT,
    "private key": PEM,
    "basic": BASIC,
    "bearer": f"Bearer {CANARY}",
    "aws": "AKIAK4N4RY9F8E7D6C5B",
    "github": "ghp_k4n4ry9f8e7d6c5b4ak4n4ry9f8e7d6c5b4a",
    "slack": "xoxb-123456789012-k4n4ry9f8e7d6c5b4a",
    "stripe": "sk_live_k4n4ry9f8e7d6c5b4a",
    "google": "AIzaSyk4n4ry9f8e7d6c5b4ak4n4ry9f8e7d6c5",
}
# What no output may hold, any case.
TRACES = re.compile(r"k4n4ry|azRuNHJ5|prNG40cnkt|AKIAK4N4RY", re.IGNORECASE)

# What stands around a secret, which is at the dots, and what goes with it.
AROUND = {
    "login failed: password=..., user=bob": CANARY,
    '{"user": "bob", "password": "...", "n": 1}': CANARY,
    "{'passwd': '...', 'n': 1}": CANARY,
    "pwd: ...": CANARY,
    "GET https://shop.test/a?token=...&page=2": CANARY,
    "https://s3.test/x?X-Amz-Signature=...&n=1": CANARY,
    "connect postgres://app:...@db:5432/shop": CANARY,
    "redis://:...@cache:6379/0": CANARY,
    "Server=db;User Id=sa;Password=...;Database=x": CANARY,
    "AccountName=a;AccountKey=...;Suffix=b": f"{CANARY}==",
    "ALTER USER bob IDENTIFIED BY '...'": CANARY,
    "CREATE ROLE bob WITH PASSWORD '...' LOGIN": CANARY,
    "SELECT id FROM users WHERE password = '...' AND id = 3": CANARY,
    "Authorization: Bearer ...": CANARY,
    "Authorization: Digest ...\nHost: shop": f'username="a", response="{CANARY}"',
    "Cookie: ...\nHost: shop": f"sid={CANARY}; theme=dark",
    "mysqldump --password ... shop": CANARY,
    "deploy --api-key=... --verbose": CANARY,
    "<user><password>...</password></user>": CANARY,
    "key is ... and more": PEM,
    "got ....": JWT,
    'body "{\\"secret\\": \\"...\\"}"': CANARY,
    "headers: [(b'authorization', b'...'), (b'host', b'a')]": CANARY,
    "secret_key => ...": CANARY,
    "redirect=https%3A%2F%2Fx%3Faccess_token%3D...": CANARY,
    "the API key: ...": CANARY,
    "credentials=... of bob": f"{{'user': 'bob', 'code': ['{CANARY}']}}",
    "tokens: ..., page: 2": f"['{CANARY}', 'b']",
    "git clone https://...@git.test/shop.git": CANARY,
    "amqp://app:...@queue.test/v": f"a/{CANARY}",
    "config['api_key'] = '...'": CANARY,
    'password="..."': f'a \\" {CANARY}',
    "SET PASSWORD FOR 'bob'@'%' = '...'": CANARY,
    "SELECT PASSWORD('...')": CANARY,
    "Authorization: Basic ...": BASIC.removeprefix("Basic "),
    "INSERT INTO users (name, password) VALUES ('ada', '...')": CANARY,
    "INSERT INTO users (pin, cvv) VALUES (1, ...) RETURNING pin": "4711",
    'INSERT INTO "auth" ("password", "at") VALUES (\'...\', NULL)': CANARY,
    "pw: ...": CANARY,
    "curl -u bob:... https://shop.test/": CANARY,
    "curl -su 'bob:...' https://shop.test/": f"a {CANARY}",
    "wget --user bob:... https://shop.test/": CANARY,
    "Command '['curl', '-u', 'bob:...', '-v']' returned 7": CANARY,
    "secret=": "",
}
SENTENCES = {
    around.replace("...", secret, 1): around.replace("...", "[redacted]", 1)
    for around, secret in AROUND.items()
}

# A statement, and what arrives; S is a secret.
ROWS = "INSERT INTO users (name, password) VALUES "
INSERTS = {
    "('ada', 'S'), ('bob', 'S') ON CONFLICT DO NOTHING": (
        "('ada', '[redacted]'), ('bob', '[redacted]') ON CONFLICT DO NOTHING"
    ),
    "('O''Hara, A.', 'S''S')": "('O''Hara, A.', '[redacted]')",
    r"('O\'Hara', 'S\'S')": r"('O\'Hara', '[redacted]')",
    r"('c:\', 'S')": r"('c:\', '[redacted]')",
    '("ada", "S")': '("ada", "[redacted]")',
    "(lower('A, B'), crypt('S', salt('bf', 8)))": "(lower('A, B'), [redacted])",
    "(ARRAY['a', 'b'], 0xS)": "(ARRAY['a', 'b'], [redacted])",
    "('ada', NULL), ('bob', DEFAULT)": "('ada', NULL), ('bob', DEFAULT)",
    "(%s, %s), (?, ?), ($1, $2::text)": "(%s, %s), (?, ?), ($1, $2::text)",
    "(:a, :password), (%(a)s, %(b)s)": "(:a, :password), (%(a)s, %(b)s)",
    "(...) took 3 ms": "(...) took 3 ms",
    "ROW('ada', 'S')": "ROW('ada', '[redacted]')",
    # In neither way, or in two: all of it goes.
    "('ada', 'S": "([redacted])",
    "('ada', $$S, S$$) RETURNING id": "([redacted]) RETURNING id",
    r"('a\', 'S', 'b\', 'S')": "([redacted])",
    "('S')": "([redacted])",
}
INSERTS_IN_FULL = {
    "WITH a AS (insert into b(c,token)values(1,'S')) SELECT 1": (
        "WITH a AS (insert into b(c,token)values(1,'[redacted]')) SELECT 1"
    ),
    "INSERT ALL INTO a (cvv) VALUES (S) INTO b (c, cvv) VALUES (1, S) SELECT 1": (
        "INSERT ALL INTO a (cvv) VALUES ([redacted]) "
        "INTO b (c, cvv) VALUES (1, [redacted]) SELECT 1"
    ),
    "INSERT INTO a ([b], [api_key]) OUTPUT inserted.b VALUES (1, 'S')": (
        "INSERT INTO a ([b], [api_key]) OUTPUT inserted.b VALUES (1, '[redacted]')"
    ),
    r"""{"sql": "INSERT INTO a (\n b,\n pwd\n)\nVALUES (\n 1,\n 'S'\n)", "n": 1}""": (
        r"""{"sql": "INSERT INTO a (\n b,\n pwd\n)\nVALUES (\n 1,\n '[redacted]'\n)","""
        ' "n": 1}'
    ),
    r"'INSERT INTO a (b, pwd) VALUES (\'c\', \'S\')' failed": (
        r"'INSERT INTO a (b, pwd) VALUES (\'c\', \'[redacted]\')' failed"
    ),
    'INSERT INTO a (pwd, b) VALUES (\'S\', \'{"token": "S", "n": 1}\')': (
        "INSERT INTO a (pwd, b) VALUES "
        '(\'[redacted]\', \'{"token": "[redacted]", "n": 1}\')'
    ),
}
ALL_INSERTS = INSERTS_IN_FULL | {ROWS + a: ROWS + b for a, b in INSERTS.items()}

SECRET_NAMES = (
    *("password", "user.password", "db_password", "dbPassword", "DB_PASSWORD"),
    *("passwd", "mysql_pwd", "secret", "client_secret", "clientSecret", "token"),
    *("access_token", "refreshToken", "x-auth-token", "api_key", "apiKey", "APIKEY"),
    *("http.request.header.authorization", "http.request.header.cookie"),
    *("http.response.header.set-cookie", "http.request.header.x-api-key"),
    *("proxy-authorization", "private_key", "ssh-key", "session_id", "sessionId"),
    *("PHPSESSID", "connect.sid", "csrf_token", "X-XSRF-TOKEN", "credentials"),
    *(
        "pw",
        "db.pw",
        "aws_secret_access_key",
        "passphrase",
        "credit_card",
        "cvv",
        "ssn",
        "auth",
    ),
)
HARMLESS_NAMES = (
    *("token_count", "author", "authority", "passenger", "max_tokens", "monkey"),
    *("gen_ai.usage.input_tokens", "gen_ai.token.type", "session.id", "primary_key"),
    *("tokenizer", "password_length", "token_type", "cookie_name", "bypass", "key"),
    *("code.function.name", "http.route", "db.query.text", "url.query", "secretary"),
    *("authorized", "auth.method", "compass", "partition_key", "user.id"),
)


def leaks(shown: object) -> list[str]:
    """Where a canary shows, with what stands around it."""
    text = shown if isinstance(shown, str) else repr(shown)
    return [text[max(0, m.start() - 60) : m.end() + 20] for m in TRACES.finditer(text)]


def received(collector: Collector) -> str:
    """Everything that arrived, as the bytes of the wire."""
    return "".join(
        request.message.SerializeToString().decode("latin-1") + repr(request.headers)
        for request in collector.requests()
    )


class PlantedError(Exception):
    """An exception whose text holds a secret."""


def plant(handle: fo.FlextObservability) -> None:
    """Put the canary wherever a program can put one."""
    _plant_on_spans(handle)
    _plant_in_logs(handle)
    _plant_in_metrics()
    _plant_in_entities()


def _fail() -> None:
    password = CANARY  # a local, which no stack trace shows
    message = f"cannot log in with password={password}"
    raise PlantedError(message)


def _plant_on_spans(handle: fo.FlextObservability) -> None:
    sentence = f"failed with token={CANARY}"
    attributes: dict[str, Any] = {
        "password": CANARY,
        "http.request.header.authorization": (f"Bearer {CANARY}",),
        "url.full": f"https://bob:{CANARY}@shop.test/?token={CANARY}",
        "db.query.text": f"ALTER USER bob IDENTIFIED BY '{CANARY}'",
        "nested": {"inside": [{"api_key": CANARY}, {"a": sentence}]},
        "pairs": [["cookie", f"sid={CANARY}"], ["host", "shop"]],
        "process.command_args": ["app", "--password", CANARY, f"--token={CANARY}"],
        "bytes": f"password={CANARY}".encode(),
        f"https://bob:{CANARY}@shop.test": "a secret in a name",
        "numbers.password": 4711,
        **{f"token.{name}": token for name, token in TOKENS.items()},
        **{f"text {place}": text for place, text in enumerate(TOKENS.values())},
        **{f"sentence {place}": text for place, text in enumerate(SENTENCES)},
    }
    with fo.flext_span("planted", attributes=attributes) as span:
        span.add_event(sentence, {"password": CANARY, "text": sentence})
        span.set_status("error", sentence)
    context = SpanContext(1, 2, is_remote=True)
    plain = handle.tracer.start_span(
        sentence,
        attributes=attributes,
        links=[Link(context, {"secret": CANARY, "text": sentence})],
    )
    plain.add_event("plain", {"authorization": CANARY})
    plain.set_status(Status(StatusCode.ERROR, sentence))
    plain.end()
    with pytest.raises(PlantedError), fo.flext_span("raising"):
        _fail()
    with (
        pytest.raises(PlantedError),
        handle.tracer.start_as_current_span("raising plain"),
    ):
        _fail()
    with pytest.raises(PlantedError):
        fo.flext_monitor_function("monitored")(_fail)()


def _plant_in_logs(handle: fo.FlextObservability) -> None:
    for sentence in SENTENCES:
        fo.get_logger("shop").error(sentence)
    fo.get_logger("shop").error("context", password=CANARY, data={"token": CANARY})
    fo.FlextStructuredLogger("shop").bind(api_key=CANARY).error("bound")
    logging.getLogger("shop").error("password=%s", CANARY, extra={"secret": CANARY})
    handle.logger.emit(
        body={"password": CANARY, "list": [f"pwd={CANARY}"]},
        attributes={"token": CANARY},
        event_name=f"token={CANARY}",
    )
    try:
        _fail()
    except PlantedError:
        fo.get_logger("shop").exception("it failed")
        logging.getLogger("shop").exception("it failed")


def _plant_in_metrics() -> None:
    labels = {"password": CANARY, "url": f"https://bob:{CANARY}@shop.test/"}
    fo.flext_counter("planted").add(1, labels)
    fo.flext_histogram("planted.time", unit="s").record(1, labels)
    fo.flext_gauge("planted.now", description=f"token={CANARY}").set(1, labels)

    def observe(_: CallbackOptions) -> list[Observation]:
        return [Observation(1, {"secret": CANARY})] if planting.is_set() else []

    meter = metrics.get_meter("plain", attributes={"api_key": CANARY})
    meter.create_observable_gauge("planted.seen", [observe])


def _plant_in_entities() -> None:
    text = f"password={CANARY}"
    fo.flext_create_metric("made", 1, tags={"token": CANARY}).unwrap()
    with fo.flext_create_trace("made", context={"secret": CANARY, "a": text}).unwrap():
        pass
    fo.flext_create_alert("made", "error", text, {"api_key": CANARY}).unwrap()
    fo.flext_create_health_check("db", "unhealthy", text, {"password": CANARY}).unwrap()
    fo.flext_create_log_entry("error", text, {"cookie": CANARY}).unwrap()


# Instruments outlive a shutdown; this one is to be silent in other tests.
planting = threading.Event()


@pytest.fixture(autouse=True)
def only_here() -> Iterator[None]:
    """Observable instruments of these tests say nothing in others."""
    planting.set()
    yield
    planting.clear()


@pytest.fixture
def stderr(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was written on both standard streams."""
    return lambda: "".join(capfd.readouterr())


def test_collector(
    collector: Collector, stderr: Callable[[], str], figure: Callable[..., None]
) -> None:
    """Nothing of it reaches the collector, standard error or the status."""
    handle = start(
        collector, resource_attributes={"deploy.token": CANARY, "note": f"pwd={CANARY}"}
    )
    plant(handle)
    flush()
    assert len(collector.spans()) >= 6
    assert len(collector.logs()) >= len(SENTENCES)
    assert set(collector.metric("planted").attributes.values()) == {
        "[redacted]",
        "https://bob:[redacted]@shop.test/",
    }
    assert leaks(received(collector)) == []
    assert leaks(stderr()) == []
    assert leaks(str(fo.status())) == []
    assert_balanced()
    planted = len(SENTENCES) + len(TOKENS) + len(SECRET_NAMES)
    figure("S1", kinds=planted, hits=0)


def test_console_and_memory(stderr: Callable[[], str]) -> None:
    """Neither the console exporter nor the records in memory show it."""
    handle = fo.setup("shop", exporters=["console", "memory"]).unwrap()
    plant(handle)
    flush()
    memory = handle.memory
    assert memory is not None
    shown: list[object] = []
    for span in memory.spans:
        shown += span.name, dict(span.attributes or {}), span.status.description
        shown += [(e.name, dict(e.attributes or {})) for e in span.events]
        shown += [dict(link.attributes or {}) for link in span.links]
    for record in memory.logs:
        log = record.log_record
        shown += log.body, log.event_name, dict(log.attributes or {})
    assert len(memory.spans) >= 6
    assert leaks(shown) == []
    assert leaks(memory.metrics) == []
    text = stderr()
    assert "planted" in text
    assert leaks(text) == []


def test_metrics_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that Prometheus scrapes does not show it."""
    port = closed_port()
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    handle = fo.setup(
        "shop", exporters=["prometheus"], resource_attributes={"deploy.token": CANARY}
    ).unwrap()
    plant(handle)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = page.read().decode()
    assert "planted_total" in text
    assert leaks(text) == []


def test_spool(tmp_path: Path) -> None:
    """The bytes on the disk, while the collector is away, do not hold it."""
    headers = {"authorization": f"Bearer {CANARY}"}
    handle = fo.setup(
        "shop",
        endpoint=f"http://127.0.0.1:{closed_port()}",
        protocol="http/protobuf",
        headers=headers,
        durability="record",
        spool_dir=tmp_path / "state",
    ).unwrap()
    plant(handle)
    fo.flush(0.3)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"planted" in content
    assert b"it failed" in content
    assert leaks(content.decode("latin-1")) == []
    assert not [path for path in files if leaks(str(path))]


@pytest.mark.parametrize("sentence", SENTENCES, ids=AROUND)
def test_the_rest_stays_readable(http_collector: Collector, sentence: str) -> None:
    """Only the secret part goes."""
    start(http_collector)
    with fo.flext_span("text", {"text": sentence}):
        pass
    flush()
    assert http_collector.span("text").attributes["text"] == SENTENCES[sentence]


@pytest.mark.parametrize("statement", ALL_INSERTS)
def test_values_of_secret_columns(http_collector: Collector, statement: str) -> None:
    """Of an INSERT the values of secret columns go, in every row and notation."""
    start(http_collector)
    with fo.flext_span("insert", {"db.query.text": statement}):
        fo.get_logger("shop").warning(statement)
    flush()
    arrived = http_collector.span("insert").attributes["db.query.text"]
    assert arrived == ALL_INSERTS[statement]
    (log,) = http_collector.logs()
    assert log.body == ALL_INSERTS[statement]


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_tokens_in_a_sentence(http_collector: Collector, token: str) -> None:
    """A token is seen wherever it stands."""
    start(http_collector)
    with fo.flext_span(f"sent {token} away"):
        pass
    flush()
    (span,) = http_collector.spans()
    scheme = token.split(maxsplit=1)[0]
    assert span.name in {"sent [redacted] away", f"sent {scheme} [redacted] away"}


def test_arguments_of_curl(http_collector: Collector) -> None:
    """A list of arguments loses the password behind `-u` and `--user`."""
    start(http_collector)
    curl = ("curl", "-u", f"bob:{CANARY}", f"--user=bob:{CANARY}", "-v")
    docker = ("docker", "run", "-u", "10:20", "--user", "10:20")
    with fo.flext_span("ran", {"curl": curl, "docker": docker}):
        pass
    flush()
    assert http_collector.span("ran").attributes == {
        "curl": ["curl", "-u", "bob:[redacted]", "--user=bob:[redacted]", "-v"],
        "docker": list(docker),
    }


def test_names(http_collector: Collector) -> None:
    """A name tells a secret by its words; names that only look alike do not."""
    start(http_collector)
    with fo.flext_span("names", dict.fromkeys(SECRET_NAMES + HARMLESS_NAMES, "plain")):
        pass
    flush()
    found = http_collector.span("names").attributes
    assert [n for n in SECRET_NAMES if found[n] != "[redacted]"] == []
    assert [n for n in HARMLESS_NAMES if found[n] != "plain"] == []


def test_harmless_texts(http_collector: Collector) -> None:
    """Ordinary texts arrive as they are."""
    texts = [
        "GET /orders?page=2&sort=price",
        "SELECT id FROM orders WHERE total > 5 AND name = 'x'",
        "bearer token missing",
        "Basic authentication failed",
        "a basic understanding of it",
        "https://user:8080/path@2",
        "https://bob@shop.test/",
        "/users?page=2&key_id=",
        "time=2026-01-01T00:00:00Z level=info msg=ok",
        "https://host:8080/users/@me",
        "ssh://git@github.com/shop.git",
        "max_tokens=100, temperature=0.5",
        "KeyError: 'user'",
        "password reset for bob",
        "password=None",
        "key=value",
        "mail bob@example.com",
        "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        "INSERT INTO users (name, token_count) VALUES ('ada', 3)",
        "insert into the form (name, password) values that you like",
        "insert a coin into the slot (no password) and read the value (3)",
        "docker run --user 1000:1000 --name shop image:1",
        "journalctl -u shop:web",
        "curl -u bob https://shop.test:8080/",
    ]
    start(http_collector)
    for text in texts:
        with fo.flext_span("text", {"text": text}):
            pass
    flush()
    found = [span.attributes["text"] for span in http_collector.spans()]
    assert found == texts


def test_entities_keep_what_they_were_given(http_collector: Collector) -> None:
    """What is emitted is redacted, what the program stored is its own."""
    start(http_collector)
    made = fo.flext_create_log_entry("error", f"pwd={CANARY}", {"cookie": CANARY})
    entry = made.unwrap()
    flush()
    assert (entry.message, entry.context) == (f"pwd={CANARY}", {"cookie": CANARY})
    (log,) = http_collector.logs()
    assert (log.body, log.attributes["cookie"]) == ("pwd=[redacted]", "[redacted]")


def test_exemplars(http_collector: Collector) -> None:
    """Labels that a view leaves out are redacted where an exemplar keeps them."""
    view = View(instrument_name="seen", attribute_keys={"region"})
    start(http_collector, views=[view])
    labels = {"region": "eu", "password": CANARY, "text": f"pwd={CANARY}"}
    with fo.flext_span("seen"):
        fo.flext_counter("seen").add(1, labels)
        fo.flext_histogram("seen").record(1, labels)
    flush()
    assert http_collector.metric("seen").attributes == {"region": "eu"}
    assert "[redacted]" in received(http_collector)
    assert leaks(received(http_collector)) == []


def test_trace_state(http_collector: Collector) -> None:
    """A secret in a caller's trace state goes on to callees, and not on records."""
    start(http_collector)
    state = {"tracestate": f"vendor={JWT}"}
    parent = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    with fo.flext_extract_headers(parent | state), fo.flext_span("served"):
        out = fo.flext_inject_headers().unwrap()
    flush()
    assert out["tracestate"] == state["tracestate"]
    assert http_collector.span("served").trace_id == "1" * 32
    assert leaks(received(http_collector)) == []


# -- the user's own rules


def test_further_names_and_patterns(
    http_collector: Collector, stderr: Callable[[], str]
) -> None:
    """Words and patterns of the user's redact more."""
    start(
        http_collector,
        redact_keys=["iban", "customer.nr"],
        redact_patterns=[r"\b\d{4}-\d{4}\b"],
    )
    with fo.flext_span(
        "own",
        {
            "customerIban": "DE00",
            "customer_nr": 4,
            "customer": "bob",
            "text": "iban=DE00 card 1234-5678 of bob",
        },
    ):
        fo.get_logger("shop").warning("card 1234-5678")
    flush()
    assert http_collector.span("own").attributes == {
        "customerIban": "[redacted]",
        "customer_nr": "[redacted]",
        "customer": "bob",
        "text": "iban=[redacted] card [redacted] of bob",
    }
    assert "1234-5678" not in stderr()


def test_callback_redacts_more_and_spares(http_collector: Collector) -> None:
    """A callback is asked first: a value of its own, the value itself, or None."""

    def redact(name: str, value: object) -> object:
        if name == "user.email":
            return "somebody"
        if name == "session_id":
            return value
        return None

    start(http_collector, redact=redact)
    with fo.flext_span(
        "asked",
        {
            "user.email": "bob@example.com",
            "session_id": "public-1",
            "password": CANARY,
            "nested": {"user.email": "bob@example.com"},
        },
    ):
        fo.get_logger("shop").warning("asked", **{"user.email": "bob@example.com"})
    flush()
    assert http_collector.span("asked").attributes == {
        "user.email": "somebody",
        "session_id": "public-1",
        "password": "[redacted]",
        "nested": {"user.email": "somebody"},
    }
    assert http_collector.log("asked").attributes["user.email"] == "somebody"


def test_a_callback_that_raises(
    http_collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What it was asked about is redacted, and it is said once."""

    def redact(name: str, value: object) -> object:
        raise RuntimeError(CANARY)

    start(http_collector, redact=redact)
    for _ in range(20):
        with fo.flext_span("asked", {"a": "b"}):
            pass
    flush()
    assert [s.attributes for s in http_collector.spans()] == [{"a": "[redacted]"}] * 20
    said = [r for r in caplog.records if "redact" in r.getMessage()]
    assert len(said) == 1
    assert leaks(caplog.text) == []


def test_a_callback_may_return_anything(http_collector: Collector) -> None:
    """What a callback returns is made legal."""
    start(http_collector, redact=lambda _name, _value: {"\ud800": {2**70}})
    with fo.flext_span("asked", {"a": "b"}):
        pass
    flush()
    assert http_collector.span("asked").attributes == {"a": {"?": [str(2**70)]}}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"redact_patterns": ["("]}, "redact_patterns: "),
        ({"redact_patterns": ["a*"]}, "redact_patterns: "),
        ({"redact": 3}, "redact: "),
    ],
)
def test_rules_that_are_none(fields: dict[str, Any], reason: str) -> None:
    """A pattern or callback that is none is named by setup."""
    result = fo.setup("shop", exporters=["none"], **fields)
    assert result.is_failure
    assert f"Invalid configuration: {reason}" in str(result.error)


def test_switched_off(http_collector: Collector) -> None:
    """Without redaction everything arrives; the user's own rules still hold."""
    start(http_collector, redaction=False, redact_keys=["iban"])
    text = f"password={CANARY}"
    with fo.flext_span("open", {"password": CANARY, "text": text, "iban": "DE00"}):
        pass
    flush()
    assert http_collector.span("open").attributes == {
        "password": CANARY,
        "text": text,
        "iban": "[redacted]",
    }


# -- time

HARD = {
    "names": "a=",
    "secrets": "password=x ",
    "parameters": "&token=",
    "two words": "api key=",
    "urls": "://a:b@",
    "open quotes": "password='",
    "keys": "-----BEGIN PRIVATE KEY",
    "tokens": "eyJaaaaaaaaa.",
    "bearers": "Bearer a ",
    "cookies": "cookie: a=b; ",
    "brackets": "token[",
    "backslashes": "\\",
    "sql": "identified by ",
    "elements": "<password>",
    "options": "--password ",
    "one word": "a",
    "rows": "(password) values ('a')",
    "row": "(a, password) values (1, 'b'), (",
    "columns": "(password) values (",
    "values": ")values(",
    "quotes in rows": "(password) values ('\"",
    "users of curl": "curl -u a:b ",
    "options of curl": "curl -u.",
}


@pytest.mark.parametrize("piece", HARD.values(), ids=HARD.keys())
def test_a_megabyte_of_the_worst(
    http_collector: Collector, figure: Callable[..., None], piece: str
) -> None:
    """A megabyte made to keep patterns busy costs milliseconds, not seconds."""
    text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000] + " password= ://@ '"
    start(http_collector)
    began = time.process_time()
    with fo.flext_span("worst", {"text": text}):
        pass
    flush()
    spent_s = time.process_time() - began
    assert http_collector.span("worst").attributes["text"]
    figure("S1", megabyte_ms=spent_s * 1000)
    # Ten times what it takes: the machine is shared. Backtracking takes minutes.
    assert spent_s < 0.5, f"{spent_s * 1000:.0f} ms"


def test_stderr_lines_are_redacted_before_setup(stderr: Callable[[], str]) -> None:
    """A logger writes lines before setup, and keeps secrets off them too."""
    fo.get_logger("shop").error(f"token={CANARY}", password=CANARY)
    line = stderr()
    assert json.loads(line)["message"] == "token=[redacted]"
    assert leaks(line) == []


def test_own_stream_is_text() -> None:
    """The canary is found where it is: the test can fail."""
    stream = io.StringIO(f"x password={CANARY}")
    assert len(leaks(stream.getvalue())) == 1
    assert len(leaks(BASIC)) == 1
