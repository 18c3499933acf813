"""Our requests over HTTP: what they load, what they say, and over which connections."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import flext_observability as fo
from tests.conftest import Certificates, library_threads
from tests.faults.client import ledger, make, start
from tests.faults.peer import OK, Peer, read_request
from tests.faults.server import FaultServer
from tests.fixtures.collector import Collector
from tests.fixtures.library import flush_in_vain
from tests.fixtures.programs import run_program

# A proxy that nobody may use: `requests` makes the requests, over the same way.
UNUSED_PROXY = {"ALL_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"}
PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=["direct", "session"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that requests are made."""
    way = str(request.param)
    if way == "session":
        for name, value in UNUSED_PROXY.items():
            monkeypatch.setenv(name, value)
    return way


class Listener:
    """A port that keeps connections open and answers every request with 200.

    It keeps the head of each, and which connection it came over.
    """

    protocol = "http/protobuf"

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.heads: list[bytes] = []
        self.peers: list[int] = []
        """The client's port of each request."""
        self.connections: list[socket.socket] = []
        self._listener = socket.socket(family)
        self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(
                    target=self._serve, args=(connection,), daemon=True
                ).start()

    def _serve(self, connection: socket.socket) -> None:
        port = connection.getpeername()[1]
        with contextlib.suppress(OSError), connection.makefile("rb") as file:
            while line := file.readline():
                head = line
                while line not in {b"\r\n", b""}:
                    line = file.readline()
                    head += line
                length = head.lower().partition(b"content-length: ")[2]
                file.read(int(length.split(b"\r\n")[0]))
                self.heads.append(head)
                self.peers.append(port)
                connection.sendall(OK)

    def close(self) -> None:
        """Close everything."""
        for each in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    fo.shutdown(timeout_s=0.5)
    listener.close()


def deliver(*numbers: int) -> None:
    make(numbers)
    fo.flush(timeout_s=20.0).unwrap()


# What it loads

LOADED = """
    import logging, sys
    import flext_observability as fo

    fo.setup("shop", endpoint=sys.argv[1], protocol="http/protobuf").unwrap()
    before = set(sys.modules)
    with fo.flext_span("x"):
        logging.getLogger("shop").warning("x")
    fo.flext_counter("x").add(1)
    fo.flush(timeout_s=20.0).unwrap()
    late = set(sys.modules) - before
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
    print(*sorted(name for name in late if not name.startswith("flext")))
"""
HEAVY = {"requests", "urllib3", "charset_normalizer", "idna"}


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_nothing_heavy_is_loaded(is_tls: bool, certificates: Certificates) -> None:  # noqa: FBT001
    """Neither setup nor a delivery loads `requests`, and the delivery loads nothing."""
    identity = certificates.server if is_tls else None
    variables = {"REQUESTS_CA_BUNDLE": str(certificates.authority)}
    with Collector(identity=identity) as collector:
        ended = run_program(LOADED, collector.endpoint, env=variables).ok()
        assert collector.span("x")
        assert collector.log("x")
        assert collector.metric("x")
    loaded, late = ended.lines
    assert not HEAVY & set(loaded.split())
    # A lock that a thread holds for an import is held for ever in a forked child.
    assert late == ""


@pytest.mark.parametrize(
    "variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
)
def test_proxy(
    http_collector: Collector, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that a variable names, in small or large letters, gets the requests."""
    with FaultServer() as proxy:
        monkeypatch.setenv(variable, proxy.endpoint)
        start(http_collector, endpoint="http://collector.invalid:4318")
        deliver(1)
        assert proxy.numbers() == {1}
        fo.shutdown(timeout_s=0.5)
    assert not http_collector.requests()


def test_an_empty_variable_takes_no_proxy_away(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `requests` has it: small letters win, and empty large ones say nothing."""
    with FaultServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.setenv("HTTP_PROXY", "")
        start(http_collector, endpoint="http://collector.invalid:4318")
        deliver(1)
        assert proxy.numbers() == {1}
        fo.shutdown(timeout_s=0.5)


@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_tunnel(
    certificates: Certificates, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS the proxy is asked for a tunnel."""
    asked: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        asked.append(connection.recv(1000))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with Peer(handle) as proxy:
        monkeypatch.setenv(variable, proxy.endpoint)
        start(
            proxy,
            endpoint="https://collector.invalid:4318",
            certificate=str(certificates.authority),
        )
        make([1])
        flush_in_vain()
        assert asked[0].startswith(b"CONNECT collector.invalid:4318 ")
        assert ledger().pending == 1
        fo.shutdown(timeout_s=0.2)


def test_proxy_of_another_scheme(
    http_collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for https:// has no part in http://."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    start(http_collector)
    deliver(1)
    assert http_collector.requests()


# Connections


@pytest.mark.usefixtures("way")
def test_one_connection(listener: Listener) -> None:
    """All requests of a signal share a connection."""
    start(listener)
    for number in range(3):
        deliver(number)
    assert len(listener.heads) == 3
    assert len(listener.connections) == 1


@pytest.mark.usefixtures("way")
def test_idle_connection_that_was_closed(listener: Listener) -> None:
    """A connection that the server left is not used: nothing is sent twice."""
    start(listener)
    deliver(1)
    listener.connections[0].shutdown(socket.SHUT_RDWR)
    time.sleep(0.05)
    deliver(2)
    assert len(listener.heads) == 2
    assert len(set(listener.peers)) == 2
    assert (ledger().delivered, ledger().retransmitted) == (2, 0)


@pytest.mark.usefixtures("way")
def test_idle_connection_that_talks(listener: Listener) -> None:
    """What a server says unasked is not taken for the next answer."""
    start(listener)
    deliver(1)
    listener.connections[0].sendall(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
    time.sleep(0.05)
    deliver(2)
    assert len(set(listener.peers)) == 2
    assert (ledger().delivered, ledger().rejected) == (2, 0)


FORKING = """
    import os, sys
    import flext_observability as fo

    def deliver(number):
        with fo.flext_span("op", {"n": number}):
            pass
        fo.flush(timeout_s=20.0).unwrap()

    fo.setup(
        "shop", endpoint=sys.argv[1], protocol="http/protobuf",
        metrics_enabled=False, logs_enabled=False,
    ).unwrap()
    deliver(1)
    child = os.fork()
    if child == 0:
        deliver(2)
        fo.shutdown(timeout_s=2.0).unwrap()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    deliver(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(listener: Listener) -> None:
    """A child makes a connection of its own, and leaves that of its parent alone."""
    run_program(FORKING, listener.endpoint).ok()
    first, second, third = listener.peers
    assert first == third != second


def test_shutdown_ends_a_request() -> None:
    """Who shuts down does not leave a thread behind that waits for a silent server."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        peer.closing.wait(30)

    with Peer(handle) as peer:
        start(peer, timeout_s=30.0)
        make([1])
        fo.flush(timeout_s=0.3)
        fo.shutdown(timeout_s=0.2)
        deadline = time.monotonic() + 8.0
        while library_threads():
            assert time.monotonic() < deadline, library_threads()
            time.sleep(0.01)


# Addresses


def test_ipv6() -> None:
    """An address of IPv6 is connected to, and named as HTTP wants it."""
    try:
        listener = Listener(socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    start(listener, endpoint=f"http://[::1]:{listener.port}")
    deliver(1)
    fo.shutdown(timeout_s=0.5)
    listener.close()
    assert b"\r\nHost: [::1]:%d\r\n" % listener.port in listener.heads[0]


@pytest.mark.usefixtures("way")
def test_international_name(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name beyond ASCII is looked up, and told to the server, as IDNA has it."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: bytes | str, *args: int) -> object:
        looked_up.append(host.decode() if isinstance(host, bytes) else host)
        return real("127.0.0.1", *args)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start(listener, endpoint=f"http://Bücher.example.:{listener.port}")
    deliver(1)
    assert looked_up == ["xn--bcher-kva.example."]
    host = b"\r\nHost: xn--bcher-kva.example:%d\r\n" % listener.port
    assert host in listener.heads[0]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("", "/v1/traces"),
        ("/otlp/", "/otlp/v1/traces"),
        ("/ä%2f", "/%C3%A4%2Fv1/traces"),
        ('/a"b<c>', "/a%22b%3Cc%3E/v1/traces"),
        ("/50%", "/50%25/v1/traces"),
    ],
)
def test_path(listener: Listener, address: str, target: str) -> None:
    """What may not stand in a URL is escaped, and nothing twice."""
    start(listener, endpoint=listener.endpoint + address)
    deliver(1)
    line, _, _ = listener.heads[0].partition(b"\r\n")
    expected = f"POST {target} HTTP/1.1".replace("%2Fv1", "%2F/v1")
    assert line.decode().replace("%2f", "%2F") == expected


@pytest.mark.usefixtures("way")
def test_query(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query goes out with the path, a fragment does not."""
    url = f"{listener.endpoint}/in?key=a+b&ü=%41#part"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    fo.setup(
        "shop", protocol="http/protobuf", metrics_enabled=False, logs_enabled=False
    ).unwrap()
    deliver(1)
    line = listener.heads[0].partition(b"\r\n")[0].decode()
    assert line.replace("%41", "A") == "POST /in?key=a+b&%C3%BC=A HTTP/1.1"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "host", ["a..b", "*.example", ".example", "x" * 64 + ".example", "a\x01b", "a[b"]
)
def test_illegal_address(listener: Listener, host: str) -> None:
    """An address that can never be is said to be so, and burns nothing."""
    result = fo.setup(
        "shop",
        endpoint=f"http://{host}:{listener.port}",
        protocol="http/protobuf",
        metrics_enabled=False,
        logs_enabled=False,
    )
    if result.is_failure:
        return  # told at once
    make([1])
    problems = flush_in_vain().problems
    assert "the address or its proxy is not legal" in " ".join(problems)
    assert (ledger().pending, ledger().retransmitted) == (1, 0)
    fo.shutdown(timeout_s=0.2)


# Headers


@pytest.mark.usefixtures("way")
def test_credentials_in_the_address(listener: Listener) -> None:
    """User and password of the address are sent, unless a header says who we are."""
    endpoint = listener.endpoint.replace("//", "//b%40b:s%2Fé@")
    start(listener, endpoint=endpoint)
    deliver(1)
    assert b"\r\nAuthorization: Basic YkBiOnMv6Q==\r\n" in listener.heads[0]
    assert b"@" not in listener.heads[0].partition(b"Authorization")[0]
    fo.shutdown(timeout_s=0.5)
    start(listener, endpoint=endpoint, headers={"authorization": "Bearer x"})
    deliver(2)
    assert b"\r\nauthorization: Bearer x\r\n" in listener.heads[1]
    assert b"Basic" not in listener.heads[1]


@pytest.mark.usefixtures("way")
def test_password_that_cannot_be_said(listener: Listener) -> None:
    """A password beyond what HTTP can carry is said to be at fault, and not shown."""
    start(listener, endpoint=listener.endpoint.replace("//", "//bob:%E2%82%AC@"))
    make([1])
    assert "a header is not legal" in " ".join(flush_in_vain().problems)
    assert "€" not in str(fo.status())
    assert not listener.heads
    fo.shutdown(timeout_s=0.2)


@pytest.mark.usefixtures("way")
def test_own_headers_win(listener: Listener) -> None:
    """Headers of the user replace ours, but not those that say where a body ends."""
    headers = {
        "User-Agent": "mine",
        "Host": "else.example",
        "Content-Length": "3",
        "Transfer-Encoding": "chunked",
    }
    start(listener, headers=headers, compression="gzip")
    deliver(1)
    deliver(2)
    head = listener.heads[1].lower()
    assert b"\r\nuser-agent: mine\r\n" in head
    assert head.count(b"\r\nuser-agent:") == 1
    assert head.count(b"\r\nhost:") == head.count(b"\r\nhost: else.example\r\n") == 1
    assert head.count(b"\r\ncontent-length:") == 1
    assert b"transfer-encoding" not in head
    assert b"\r\ncontent-encoding: gzip\r\n" in head
    assert b"\r\ncontent-type: application/x-protobuf\r\n" in head
    assert b"cookie" not in head


# Certificates


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_of_the_machine(
    certificates: Certificates, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a certificate of our own, the variables that many machines set hold."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("CURL_CA_BUNDLE", str(certificates.stranger[1]))
    monkeypatch.setenv(variable, str(certificates.authority))
    with Collector(identity=certificates.server) as collector:
        start(collector)
        deliver(1)
        assert collector.requests()
        fo.shutdown(timeout_s=0.5)


@pytest.mark.usefixtures("way")
def test_authorities_that_are_gone(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that leads nowhere is said to, and nothing else is trusted instead."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    with Collector(identity=certificates.server) as collector:
        start(collector)
        make([1])
        assert "a file of `certificate`" in " ".join(flush_in_vain().problems)
        assert not collector.requests()
        fo.shutdown(timeout_s=0.2)


# Answers


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\n\x1f",
    ],
    ids=["short", "short_chunk", "unknown", "half_compressed"],
)
def test_unreadable_answer(answer: bytes) -> None:
    """Accepted is accepted, even if the rest of the answer cannot be read."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with Peer(handle) as peer:
        start(peer, timeout_s=3.0)
        deliver(1)
        deliver(2)
        assert peer.connections == 2
        assert ledger().delivered == 2
        assert "breaks off" in str(fo.status().last_error)
        fo.shutdown(timeout_s=0.2)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n",
        b"",
    ],
    ids=["continue", "hints", "none"],
)
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
        b"Connection: close\r\n\r\n",
    ],
    ids=["length", "chunked", "until_closed"],
)
def test_answer(head: bytes, body: bytes) -> None:
    """Every way to end an answer is understood."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head + b"HTTP/1.1 200 OK\r\n" + body)

    with Peer(handle) as peer:
        start(peer, timeout_s=3.0)
        deliver(1)
        deliver(2)
        assert ledger().delivered == 2
        assert fo.status().last_error is None
        fo.shutdown(timeout_s=0.2)


@pytest.mark.usefixtures("way")
def test_endless_hints() -> None:
    """A server that only announces is one that does not answer."""
    hint = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(hint)
                time.sleep(0.01)

    with Peer(handle) as peer:
        start(peer, timeout_s=1.0)
        make([1])
        assert "no answer in time" in str(flush_in_vain(3.0).last_error)
        assert ledger().pending == 1
        fo.shutdown(timeout_s=0.2)
