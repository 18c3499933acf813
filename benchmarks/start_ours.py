"""The set-up of all three signals over OTLP/HTTP with this library."""

import logging

import flext_observability as fo


def start(url: str) -> None:
    """Send traces, metrics and logs of this process."""
    fo.setup("bench", endpoint=url, protocol="http/protobuf").unwrap()


def deliver() -> None:
    """Make one record of each signal, and wait until they have arrived."""
    with fo.flext_span("call"):
        fo.flext_counter("calls").add(1)
        logging.getLogger("bench").warning("called")
    fo.flush(30).unwrap()
