"""The payment service: an HTTP server that charges cards. Process 2 of 2.

    python payments.py --port 8081

Ends on SIGTERM or Ctrl-C. It uses nothing but the standard library's HTTP server, to
show the two lines that carry a trace from one process to the next.
"""

import argparse
import contextlib
import json
import signal
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import flext_observability as fo

log = fo.get_logger("payments")
charges = fo.flext_counter("payments.charges", unit="{charge}", description="By result")
balance = fo.flext_gauge("payments.balance", unit="EUR", description="Charged so far")

busy_with: set[str] = set()
charged: dict[str, float] = {}


class CardDeclinedError(Exception):
    """The bank said no."""


class BankBusyError(Exception):
    """The bank does not answer just now."""


# capture_args names what may be seen on the span: the card number may not.
@fo.flext_monitor_function("ask_bank", capture_args=["order", "amount"])
def ask_bank(order: str, amount: float, card: str) -> str:
    time.sleep(0.008)
    if order.endswith("2") and order not in busy_with:
        busy_with.add(order)  # the second order meets a busy bank, once
        raise BankBusyError("the bank is busy")
    if card == "0000":
        raise CardDeclinedError("insufficient funds")
    charged[order] = amount
    return f"R-{order}"


@fo.flext_monitor_function("POST /charges", kind="server")
def charge(order: str, amount: float, card: str) -> tuple[HTTPStatus, dict[str, str]]:
    try:
        receipt = ask_bank(order, amount, card)
    except BankBusyError as error:
        charges.add(1, {"result": "busy"})
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
    except CardDeclinedError as error:
        charges.add(1, {"result": "declined"})
        log.warning("card declined", order=order, amount=amount)
        return HTTPStatus.PAYMENT_REQUIRED, {"error": str(error)}
    charges.add(1, {"result": "charged"})
    balance.set(sum(charged.values()))
    log.info("card charged", order=order, amount=amount)
    return HTTPStatus.OK, {"receipt": receipt}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # From here on the caller's span is the parent and its correlation id is ours.
        with fo.flext_extract_headers(dict(self.headers)):
            status, answer = charge(**json.loads(body))
        reply = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Telemetry says it better."""


def main(port: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"127.0.0.1:{server.server_port}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8081, help="0 for any free one")
    options = parser.parse_args()
    fo.setup(service_name="payments", service_version="2.0.1", environment="demo")
    main(options.port)
    fo.shutdown()
    # What became of the telemetry: accepted = delivered + rejected + dropped + pending.
    signals = fo.status().signals
    print(json.dumps({name: [s.delivered, s.accepted] for name, s in signals.items()}))
