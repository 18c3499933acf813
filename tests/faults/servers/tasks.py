"""A Celery application: every task makes one span with its number.

The broker is a folder, so no other program is needed.
"""

import json
import os
from pathlib import Path
from typing import Any

import celery
import celery.signals

import flext_observability as fo

folder = Path(os.environ["CELERY_FOLDER"])
options = {
    "data_folder_in": str(folder),
    "data_folder_out": str(folder),
    "control_folder": str(folder / "control"),
    "polling_interval": 0.05,
}
app: Any = celery.Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options=options,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
)


def work(number: int) -> None:
    """Make the span of one task."""
    with fo.flext_span("request", {"n": number}):
        pass


make = app.task(work, name="make")

if "SERVER_SETUP" in os.environ:
    fo.setup("web", **json.loads(os.environ["SERVER_SETUP"])).unwrap()


def send(count: int) -> None:
    """Ask for that many tasks."""
    for number in range(count):
        make.delay(number)


def flush(**_details: object) -> None:
    """Send what a worker has before it ends, which it does by os._exit."""
    fo.flush(8.0)


if "SERVER_FLUSH" in os.environ:
    celery.signals.worker_process_shutdown.connect(flush, weak=False)
