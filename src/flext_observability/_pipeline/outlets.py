"""What operators are told beside OTLP: Alertmanager, Pushgateway, service discovery."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource

from ..environment import telemetry_is_disabled
from ..settings import Settings
from .cleaning import Cleaner
from .ledger import Notices, SignalLedger
from .own_work import suppressor
from .resource import is_instance_stated

if TYPE_CHECKING:  # each is loaded when a setting names it
    from .alertmanager import AlertSender
    from .prometheus import PrometheusReader
    from .pushgateway import MetricPusher
    from .target_file import TargetFile


class Outlets:
    """Those that the settings name; none of them by default."""

    alerts: "AlertSender | None" = None
    pusher: "MetricPusher | None" = None
    target: "TargetFile | None" = None

    def __init__(self, notices: Notices) -> None:
        self.notices = notices

    def start(self) -> None:
        """Start what does not wait for the first alert."""
        if self.pusher is not None:
            self.pusher.start()

    def serving(self, host: str, port: int) -> None:
        """Let Prometheus find this process.

        Args:
            host: Where the metrics page is served.
            port: Its port.
        """
        if self.target is None:
            return
        try:
            self.target.write(host, port)
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.notices.error(
                "service_discovery",
                f"service_discovery_dir: Prometheus will not find this process: {why}",
            )

    def stop_serving(self) -> None:
        """Tell Prometheus that this process serves no more."""
        if self.target is not None:
            self.target.remove()

    def take_over(self, former: "Outlets") -> None:
        """Go on with alerts that are open under other settings."""
        if self.alerts is not None and former.alerts is not None:
            self.alerts.take_over(former.alerts)

    def flush(self, deadline: float) -> str:
        """Tell what is due and wait for it until a deadline.

        Returns:
            What was not told, for people; empty when all was.
        """
        left = 0 if self.alerts is None else self.alerts.flush(deadline)
        return f"{left} alerts" if left else ""

    @property
    def why_untold(self) -> str:
        """Say what keeps alerts here; empty when nothing is known."""
        return (self.alerts.problem if self.alerts else None) or ""

    def begin_close(self, deadline: float) -> None:
        """Tell the last, in the background, until a deadline."""
        if self.alerts is not None:
            self.alerts.begin_close()
        if self.pusher is not None:
            self.pusher.begin_close(deadline)

    def close(self, deadline: float) -> None:
        """Wait for that, and let go."""
        self.stop_serving()
        if self.alerts is not None:
            self.alerts.close(deadline)
        if self.pusher is not None:
            self.pusher.close(deadline)

    def join(self, deadline: float) -> None:
        """Wait for the ends of the threads until a deadline."""
        for part in (self.alerts, self.pusher):
            if part is not None:
                part.join(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """Do nothing any more: in a forked child, all of this is the parent's."""
        for part in (self.alerts, self.pusher, self.target):
            if part is not None:
                part.abandon()

    def leave_page_to_parent(self) -> None:
        """Have no page: a forked child would replace that of its parent."""
        self.pusher = None
        self.target = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for people."""
        found = [part.problem for part in (self.alerts, self.pusher) if part]
        return tuple(problem for problem in found if problem)

    def snapshot(self) -> dict[str, SignalLedger]:
        """Give what became of the changes that Alertmanager is told of."""
        if self.alerts is None:
            return {}
        return {"alertmanager": self.alerts.ledger.snapshot()}


def make_outlets(
    config: Settings,
    cleaner: Cleaner,
    secrets: Sequence[str],
    resource: Resource,
) -> Outlets:
    """Make what the settings name; what pushes metrics comes with their provider.

    Args:
        config: The settings.
        cleaner: Takes secrets out.
        secrets: Texts that no message may show, beside the passwords of addresses.
        resource: Who sends.
    """
    # Of their own: what they last said is no reason why telemetry does not arrive.
    notices = Notices()
    outlets = Outlets(notices)
    addresses = (config.alertmanager_url, config.push_gateway_url)
    passwords = [urlsplit(each).password for each in addresses if each]
    notices.hide([*secrets, *filter(None, passwords)], cleaner.redactor.text)
    service = str(resource.attributes.get("service.name", ""))
    if config.alertmanager_url and not telemetry_is_disabled():
        from .alertmanager import AlertSender
        from .web_client import WebClient

        client = WebClient(config.alertmanager_url)
        resend_s = config.alert_resend_s
        outlets.alerts = AlertSender(
            client, service, resend_s, cleaner, notices, suppressor()
        )
    if config.service_discovery_dir is not None:
        from .target_file import TargetFile

        labels = {"environment": config.environment}
        outlets.target = TargetFile(config.service_discovery_dir, service, labels)
    return outlets


def make_pusher(
    config: Settings,
    page: "PrometheusReader",
    resource: Resource,
    notices: Notices,
) -> "MetricPusher":
    """Make what pushes the metrics page.

    Args:
        config: The settings; they name a Pushgateway.
        page: Gives the page.
        resource: Who pushes.
        notices: Where trouble is said.
    """
    from .pushgateway import MetricPusher, group_path
    from .web_client import WebClient

    who = resource.attributes
    instance = who["service.instance.id"] if is_instance_stated(config) else ""
    return MetricPusher(
        WebClient(str(config.push_gateway_url)),
        group_path(str(who.get("service.name", "")), str(instance)),
        page.text,
        config.metrics_export_interval_s,
        notices,
        suppressor(),
    )
