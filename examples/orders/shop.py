"""The shop: takes orders and lets the payment service charge them. Process 1 of 2.

    python payments.py --port 8081
    python shop.py 127.0.0.1:8081

Where the telemetry goes is not this program's business: set
OTEL_EXPORTER_OTLP_ENDPOINT, or have a collector on this machine.
"""

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection

import flext_observability as fo

# Handles can be made before setup(); they work from the moment it was called.
log = fo.get_logger("shop")
orders = fo.flext_counter("shop.orders", unit="{order}", description="By outcome")
amounts = fo.flext_histogram("shop.order.amount", unit="EUR")


@dataclass(frozen=True)
class Order:
    id: str
    item: str
    amount: float
    card: str


class PaymentBusyError(Exception):
    """The payment service asks us to come back."""


class PaymentDeclinedError(Exception):
    """The card was not accepted; trying again will not help."""


@fo.flext_monitor_function("reserve_stock")
async def reserve_stock(order: Order) -> None:
    await asyncio.sleep(0.01)
    # Attributes of the span that is running, here that of reserve_stock.
    fo.flext_add_attributes(item=order.item, shelf="B7")


@fo.flext_monitor_function("check_fraud")
async def check_fraud(order: Order) -> None:
    await asyncio.sleep(0.005)
    log.debug("no fraud found", order=order.id)


@fo.flext_monitor_function("POST /charges", kind="client")
def post_charge(payments: str, order: Order) -> str:
    body = {"order": order.id, "amount": order.amount, "card": order.card}
    # The headers carry the trace and the correlation id into the other process.
    headers = fo.flext_inject_headers({"Content-Type": "application/json"}).unwrap()
    with contextlib.closing(HTTPConnection(payments, timeout=5)) as connection:
        connection.request("POST", "/charges", json.dumps(body), headers)
        response = connection.getresponse()
        answer: dict[str, str] = json.load(response)
    match response.status:
        case HTTPStatus.OK:
            return answer["receipt"]
        case HTTPStatus.SERVICE_UNAVAILABLE:
            raise PaymentBusyError(answer["error"])
        case _:
            raise PaymentDeclinedError(answer["error"])


async def charge(payments: str, order: Order, attempts: int = 3) -> str:
    with fo.flext_span("charge", attributes={"amount": order.amount}) as span:
        for attempt in range(1, attempts):
            try:
                # It waits, so it gets a thread; its spans stay below this one.
                return await asyncio.to_thread(post_charge, payments, order)
            except PaymentBusyError as error:
                log.warning("trying again: %s", error, order=order.id, attempt=attempt)
                span.set_attribute("retries", attempt)
                await asyncio.sleep(0.02 * attempt)
        return await asyncio.to_thread(post_charge, payments, order)


@fo.flext_monitor_function("place_order")
async def place_order(payments: str, order: Order) -> str:
    await asyncio.gather(reserve_stock(order), check_fraud(order))
    receipt = await charge(payments, order)
    log.info("order placed", order=order.id, receipt=receipt)
    return receipt


async def main(payments: str) -> None:
    for order in (
        Order("A-1001", "teapot", 24.90, card="4242"),
        Order("A-1002", "kettle", 59.00, card="4242"),
        Order("A-1003", "samovar", 870.00, card="0000"),
    ):
        # One id per order, on every span and log line of both processes.
        with fo.flext_correlation_scope(order.id):
            amounts.record(order.amount)
            try:
                await place_order(payments, order)
                outcome = "placed"
            except PaymentDeclinedError:  # already on the span and in the log
                outcome = "declined"
            orders.add(1, {"outcome": outcome})


if __name__ == "__main__":
    fo.setup(service_name="shop", service_version="1.4.0", environment="demo")
    asyncio.run(main(sys.argv[1]))
    fo.shutdown()
    # What became of the telemetry: accepted = delivered + rejected + dropped + pending.
    signals = fo.status().signals
    print(json.dumps({name: [s.delivered, s.accepted] for name, s in signals.items()}))
