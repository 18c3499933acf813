"""Fixtures of the whole suite: a clean process before and after every test."""

import contextlib
import contextvars
import logging
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from hypothesis import HealthCheck, settings
from opentelemetry import metrics

import flext_observability as fo
from tests.fixtures.collector import PROTOCOLS, Collector, Protocol
from tests.fixtures.programs import SPOOL_DIR, is_telemetry_variable
from tests.fixtures.web import free_port

# A test is never timed: the machine is shared, and a slow moment is no defect.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")

# A shell that runs us in the background has SIGINT ignored, and so would every program
# that a test starts to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads of the library carry its name, those of the SDK theirs.
LIBRARY_THREADS = ("flext", "otel", "opentelemetry")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run a test in a context of its own: no span or correlation id outlives it."""
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    contextvars.copy_context().run(pyfuncitem.obj, **arguments)
    return True


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Start without settings from outside; end as before any setup."""
    for name in filter(is_telemetry_variable, list(os.environ)):
        monkeypatch.delenv(name)
    # Never the developer's own state directory; programs a test starts share this one.
    monkeypatch.setenv(SPOOL_DIR, str(tmp_path / "spool"))
    root = logging.getLogger()
    handlers, level = set(root.handlers), root.level
    threads = set(threading.enumerate())
    yield
    fo.shutdown(timeout_s=1.0)
    import_module("flext_observability.runtime").state.has_mounted_app = False
    forget_observables()
    left = set(root.handlers) - handlers
    for handler in left:
        root.removeHandler(handler)
    root.setLevel(level)
    ours = {handler for handler in left if "flext" in type(handler).__module__}
    assert not ours, f"handlers that shutdown left on the root logger: {ours}"
    assert_no_new_threads(threads)


def forget_observables() -> None:
    """Instruments follow every later setup; a test's callbacks must not."""
    meters = getattr(metrics.get_meter_provider(), "_meters", None)
    if not isinstance(meters, dict):
        return  # no setup yet: what OpenTelemetry itself starts with
    for meter in meters.values():
        made = meter._instruments
        for key in [key for key in made if key[0].startswith("Observable")]:
            del made[key]


def assert_no_new_threads(
    before: set[threading.Thread], within_s: float = 10.0
) -> None:
    """After shutdown no thread lives on that the library or the SDK started."""
    deadline = time.monotonic() + within_s
    while alive := library_threads(before):
        assert time.monotonic() < deadline, f"threads left after shutdown: {alive}"
        time.sleep(0.01)


def library_threads(besides: Collection[threading.Thread] = ()) -> list[str]:
    """Names of the running threads that the library or the SDK started."""
    return sorted(
        thread.name
        for thread in set(threading.enumerate()).difference(besides)
        # One whose start a signal handler broke off is listed for ever, and never was.
        if thread.is_alive() and thread.name.lower().startswith(LIBRARY_THREADS)
    )


@pytest.fixture(params=PROTOCOLS, ids=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each OTLP protocol in turn."""
    return cast("Protocol", request.param)


@contextlib.contextmanager
def serving(protocol: Protocol, **options: Any) -> Iterator[Collector]:
    """A collector that outlives the library: nobody waits for a closed port."""
    with Collector(protocol, **options) as server:
        yield server
        fo.shutdown(timeout_s=0.5)


@pytest.fixture
def collector(protocol: Protocol) -> Iterator[Collector]:
    """An OTLP server, once for each protocol."""
    with serving(protocol) as server:
        yield server


@pytest.fixture
def second_collector(protocol: Protocol) -> Iterator[Collector]:
    """Another OTLP server of the same protocol."""
    with serving(protocol) as server:
        yield server


@pytest.fixture
def http_collector() -> Iterator[Collector]:
    """An OTLP/HTTP server, where the protocol makes no difference."""
    with serving("http/protobuf") as server:
        yield server


@pytest.fixture
def grpc_collector() -> Iterator[Collector]:
    """An OTLP/gRPC server."""
    with serving("grpc") as server:
        yield server


@pytest.fixture
def empty_store() -> Iterator[None]:
    """A container and totals of the test's own."""
    fo.reset_global_factory()
    yield
    fo.shutdown(0.5)
    fo.reset_global_factory()


@pytest.fixture
def port(empty_store: None) -> int:
    """The operations server inside this process, over an empty store."""
    port = free_port()
    fo.setup("shop", exporters=["none"], server_port=port).unwrap()
    return port


class Certificates:
    """PEM files of a certificate authority, a server and a client."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.server = self._issue(authority, folder / "server", "localhost")
        self.client = self._issue(authority, folder / "client", "client@example.org")
        self.stranger = self._issue(trustme.CA(), folder / "other", "x@example.org")

    @staticmethod
    def _issue(authority: trustme.CA, stem: Path, name: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(name)
        key, chain = stem.with_suffix(".key"), stem.with_suffix(".pem")
        issued.private_key_pem.write_to_path(str(key))
        for number, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(str(chain), append=number > 0)
        return key, chain


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Real certificates, made once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls_collector(
    protocol: Protocol, certificates: Certificates
) -> Iterator[Collector]:
    """An OTLP server that speaks TLS."""
    with serving(protocol, identity=certificates.server) as server:
        yield server


@pytest.fixture
def mtls_collector(
    protocol: Protocol, certificates: Certificates
) -> Iterator[Collector]:
    """An OTLP server that speaks TLS and wants to see a client certificate."""
    with serving(
        protocol, identity=certificates.server, client_ca=certificates.authority
    ) as server:
        yield server
