"""What Alertmanager is told, by a stand-in that keeps it: when, and how safely."""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from threading import Thread
from typing import Any

import pytest

import flext_observability as fo
from tests.fixtures.collector import closed_port
from tests.fixtures.library import flush_in_vain, wait_until
from tests.fixtures.programs import run_program
from tests.fixtures.web_service import Reply, WebService


@pytest.fixture
def service() -> Iterator[WebService]:
    with WebService() as running:
        yield running
        fo.shutdown(timeout_s=0.5)


def start(service: WebService, **fields: Any) -> fo.FlextAlertService:
    given: dict[str, Any] = {"exporters": ["none"], "alertmanager_url": service.address}
    fo.setup("shop", **(given | fields)).unwrap()
    return fo.FlextAlertService(fo.FlextContainer())


def alert(
    name: str = "disk_full", severity: str = "error", **more: Any
) -> fo.FlextAlert:
    return fo.FlextAlert(name=name, severity=severity, message="it is so", **more)


def told(service: WebService) -> list[dict[str, Any]]:
    return [each for asked in service.asked for each in asked.json]


def is_firing(payload: dict[str, Any]) -> bool:
    end = datetime.fromisoformat(payload["endsAt"])
    return end.timestamp() > time.time()


def ledger() -> Any:
    return fo.status().outlets["alertmanager"]


def test_labels_and_annotations(service: WebService) -> None:
    """Labels are name, severity, service and tags; the rest is told in annotations."""
    alerts = start(service)
    raised = alert(
        tags={"region": "eu", "service": "other", "has space": "x", "empty": ""},
        details={"free": 3, "mount": "/data", "summary": "mine"},
        source="df",
    )
    alerts.process_alert(raised).unwrap()
    fo.flush().unwrap()
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/api/v2/alerts")
    assert asked.headers["content-type"] == "application/json"
    (payload,) = asked.json
    assert payload["labels"] == {
        "alertname": "disk_full",
        "severity": "error",
        "service": "shop",
        "region": "eu",
        "exported_service": "other",
        "has_space": "x",
    }
    assert payload["annotations"] == {
        "summary": "it is so",
        "free": "3",
        "mount": "/data",
        "exported_summary": "mine",
        "alert_id": raised.id,
        "source": "df",
    }
    assert payload["startsAt"] < payload["endsAt"]


def test_secrets_stay_at_home(service: WebService) -> None:
    """Nothing that redaction takes is posted, in labels, annotations or the message."""
    alerts = start(service, redact_patterns=["canary"])
    alerts.process_alert(
        fo.FlextAlert(
            name="canary one",
            severity="info",
            message="password=hunter2 at https://ada:hunter2@db/",
            tags={"token": "hunter2", "plain": "canary"},
            details={"api_key": "hunter2", "note": "Bearer hunter2hunter2"},
        )
    ).unwrap()
    fo.flush().unwrap()
    body = service.asked[0].body
    assert b"hunter2" not in body
    assert b"canary" not in body
    assert b"[redacted]" in body


def test_resolved_when_resolved(service: WebService) -> None:
    """`resolve_alert` ends it at once, whatever changed in the entity since."""
    alerts = start(service)
    raised = alerts.process_alert(alert(tags={"disk": "a"})).unwrap()
    fo.flush().unwrap()
    raised.tags["disk"] = "b"
    alerts.resolve_alert(raised.id).unwrap()
    alerts.resolve_alert(raised.id).unwrap()
    fo.flush().unwrap()
    first, last = told(service)
    assert first["labels"] == last["labels"]
    assert is_firing(first)
    assert not is_firing(last)
    assert (ledger().accepted, ledger().delivered) == (2, 2)


def test_what_was_short_is_told_in_order(service: WebService) -> None:
    """An alert that is over before anybody was told is told as begun, then as ended."""
    service.usual = Reply(503)
    alerts = start(service)
    raised = alerts.process_alert(alert()).unwrap()
    service.wait_for(lambda: bool(service.asked))
    alerts.resolve_alert(raised.id).unwrap()
    service.usual = Reply()
    before = len(service.asked)
    fo.flush().unwrap()
    answered = [each for asked in service.asked[before:] for each in asked.json]
    assert [is_firing(each) for each in answered[-2:]] == [True, False]


def test_equal_labels_end_with_the_last(service: WebService) -> None:
    """Two alerts that Alertmanager cannot tell apart are resolved by the second end."""
    alerts = start(service)
    one, two = (alerts.process_alert(alert()).unwrap() for _ in range(2))
    fo.flush().unwrap()
    alerts.resolve_alert(one.id).unwrap()
    fo.flush().unwrap()
    assert all(map(is_firing, told(service)))
    alerts.resolve_alert(two.id).unwrap()
    fo.flush().unwrap()
    assert not is_firing(told(service)[-1])


def test_escalations_and_rules_are_told(service: WebService) -> None:
    """Escalated alerts and standing rules reach Alertmanager as all others do."""
    alerts = start(service)
    first = alerts.process_alert(alert()).unwrap()
    alerts.escalate_alert(first, {"level": 2}).unwrap()
    alerts.declare("queue_full", "queue", 100).unwrap()
    alerts.evaluate({"queue": 120}).unwrap()
    fo.flush().unwrap()
    names = [each["labels"]["alertname"] for each in told(service)]
    assert sorted(names) == ["disk_full", "disk_full_escalated", "queue_full"]
    alerts.evaluate({"queue": 90}).unwrap()
    fo.flush().unwrap()
    last = told(service)[-1]
    assert last["labels"]["alertname"] == "queue_full"
    assert not is_firing(last)
    assert len(told(service)) == 4


def test_processed_again_is_nothing_new(service: WebService) -> None:
    """The same alert given twice is one change."""
    alerts = start(service)
    raised = alerts.process_alert(alert()).unwrap()
    fo.flush().unwrap()
    alerts.process_alert(raised).unwrap()
    alerts.acknowledge_alert(raised.id).unwrap()
    alerts.process_alert(raised).unwrap()
    fo.flush().unwrap()
    assert ledger().accepted == 1


def test_only_what_is_open_is_told(service: WebService) -> None:
    """Suppressed alerts, and those that come resolved, are nobody's business."""
    alerts = start(service)
    for status in ("suppressed", "resolved"):
        alerts.process_alert(alert(status=status)).unwrap()
    fo.flush().unwrap()
    assert service.asked == []
    raised = alerts.process_alert(alert()).unwrap()
    fo.flush().unwrap()
    raised.status = "resolved"
    alerts.process_alert(raised).unwrap()
    fo.flush().unwrap()
    assert [is_firing(each) for each in told(service)] == [True, False]


def test_what_an_earlier_setup_raised_can_be_resolved(service: WebService) -> None:
    """An alert that was open at a shutdown is ended by its resolution later."""
    alerts = start(service)
    raised = alerts.process_alert(alert(tags={"disk": "a"})).unwrap()
    fo.shutdown(20.0).unwrap()
    fo.setup("shop", exporters=["none"], alertmanager_url=service.address).unwrap()
    alerts.resolve_alert(raised.id).unwrap()
    fo.flush().unwrap()
    first, last = told(service)
    assert first["labels"] == last["labels"]
    assert not is_firing(last)


def test_firing_again_before_the_end_was_told(service: WebService) -> None:
    """An alert that comes back while its end is still on the way fires on."""
    alerts = start(service)
    raised = alerts.process_alert(alert()).unwrap()
    fo.flush().unwrap()
    service.usual = Reply(503)
    alerts.resolve_alert(raised.id).unwrap()
    before = len(service.asked)
    service.wait_for(lambda: len(service.asked) > before)
    alerts.process_alert(alert()).unwrap()
    service.usual = Reply()
    fo.flush().unwrap()
    assert is_firing(told(service)[-1])
    assert ledger().pending == 0


def test_many_alerts_of_one_name_are_bounded(service: WebService) -> None:
    """A hundred alerts with equal labels are remembered, the oldest goes first."""
    alerts = start(service)
    raised = [alerts.process_alert(alert()).unwrap() for _ in range(105)]
    for each in raised[:5]:
        alerts.resolve_alert(each.id).unwrap()
    fo.flush().unwrap()
    assert is_firing(told(service)[-1])
    for each in raised[5:]:
        alerts.resolve_alert(each.id).unwrap()
    fo.flush().unwrap()
    assert not is_firing(told(service)[-1])


def test_many_threads(service: WebService) -> None:
    """Eight threads at once: every change is counted once, every alert ends."""
    alerts = start(service)

    def work(thread: int) -> None:
        for number in range(50):
            raised = alerts.process_alert(alert(f"a{thread}_{number % 10}")).unwrap()
            alerts.resolve_alert(raised.id).unwrap()

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fo.flush().unwrap()
    counts = ledger()
    assert counts.accepted == counts.delivered == 800
    last = {each["labels"]["alertname"]: each for each in told(service)}
    assert len(last) == 80
    assert not any(map(is_firing, last.values()))


def test_health_that_recovers_ends_its_alert(service: WebService) -> None:
    """The alert of a streak of bad reports is resolved by the first healthy one."""
    start(service, health_failure_threshold=2)
    health = fo.FlextHealthService(fo.FlextContainer())
    for status in ("unhealthy", "degraded", "healthy", "healthy"):
        health.execute_health_check(fo.FlextHealthCheck(name="db", status=status))
        fo.flush().unwrap()
    assert [is_firing(each) for each in told(service)] == [True, False]
    assert told(service)[0]["labels"]["alertname"] == "db_unhealthy"


def test_renewed_while_it_lasts(service: WebService) -> None:
    """An alert that lasts is posted every `alert_resend_s`, for five of them ahead."""
    alerts = start(service, alert_resend_s=1)
    alerts.process_alert(alert()).unwrap()
    service.wait_for(lambda: len(service.asked) >= 3)
    asked = service.asked[:3]
    ends = [datetime.fromisoformat(a.json[0]["endsAt"]).timestamp() for a in asked]
    # They tell when it was posted: on a busy machine it may come later.
    assert 1.6 < ends[2] - ends[0] < 8.0
    now = time.time() - time.monotonic()
    assert all(0 < e - now - a.at_s < 5.5 for e, a in zip(ends, asked, strict=True))
    assert ledger().accepted == 1, "renewals are no changes"


def test_open_alerts_outlive_another_setup(service: WebService) -> None:
    """Settings that are exchanged do not end what is open."""
    alerts = start(service, alert_resend_s=1)
    raised = alerts.process_alert(alert()).unwrap()
    fo.flush().unwrap()
    start(service, alert_resend_s=2)
    before = len(service.asked)
    service.wait_for(lambda: len(service.asked) > before)
    alerts.resolve_alert(raised.id).unwrap()
    fo.flush().unwrap()
    assert not is_firing(told(service)[-1])


@pytest.mark.parametrize("status", [401, 429, 503])
def test_retried(service: WebService, status: int) -> None:
    """Trouble, and a wrong token, are no end: asked again until it is taken."""
    service.replies.extend([Reply(status), Reply(status)])
    alerts = start(service)
    alerts.process_alert(alert()).unwrap()
    service.wait_for(lambda: len(service.asked) >= 2)
    fo.flush().unwrap()
    assert (ledger().delivered, ledger().pending) == (1, 0)
    gaps = [
        b.at_s - a.at_s for a, b in zip(service.asked, service.asked[1:], strict=False)
    ]
    assert gaps[0] > 0.3, "with a pause"
    assert fo.status().problems == ()


def test_a_told_pause_is_kept(service: WebService) -> None:
    """`Retry-After` is kept."""
    service.replies.append(Reply(503, headers={"Retry-After": "2"}))
    alerts = start(service)
    alerts.process_alert(alert()).unwrap()
    service.wait_for(lambda: len(service.asked) >= 2)
    assert service.asked[1].at_s - service.asked[0].at_s >= 1.9


def test_what_is_refused_costs_no_other(service: WebService) -> None:
    """A refused alert is counted; those in the same request are told alone."""
    service.replies.append(Reply(503, headers={"Retry-After": "1"}))
    alerts = start(service)
    for number in range(3):
        alerts.process_alert(alert(f"a{number}")).unwrap()
    service.wait_for(lambda: len(service.asked) >= 1)
    service.replies.extend(
        [Reply(400), Reply(200), Reply(400, body=b"no\x1b[31m"), Reply()]
    )
    fo.flush().unwrap()
    assert (ledger().accepted, ledger().delivered, ledger().rejected) == (3, 2, 1)
    assert "\x1b" not in str(fo.status())


def test_odd_answers(service: WebService) -> None:
    """A long refusal is cut; an answer that breaks off is still an answer."""
    service.replies.append(Reply(400, body=b"no " * 100_000))
    alerts = start(service)
    alerts.process_alert(alert("a1")).unwrap()
    fo.flush().unwrap()
    assert len(str(fo.status().last_error)) < 600
    service.replies.append(Reply(400, headers={"Content-Length": "100"}, body=b"cut"))
    alerts.process_alert(alert("a2")).unwrap()
    fo.flush().unwrap()
    assert ledger().rejected == 2
    alerts.process_alert(alert("a3")).unwrap()
    fo.flush().unwrap()
    assert ledger().delivered == 1


def test_a_name_that_cannot_be_looked_up() -> None:
    """The trouble is named; the caller is not disturbed."""
    address = "http://nobody.invalid:9093"
    fo.setup("shop", exporters=["none"], alertmanager_url=address).unwrap()
    alerts = fo.FlextAlertService(fo.FlextContainer())
    alerts.process_alert(alert()).unwrap()
    # A resolver that hears nothing tries for some time.
    assert "nobody.invalid" in str(flush_in_vain(1.0).last_error)
    fo.shutdown(timeout_s=0.1)


def test_a_redirect_is_never_followed(service: WebService) -> None:
    """Wherever an answer points, nobody there is asked."""
    with WebService() as elsewhere:
        location = {"Location": f"{elsewhere.address}/api/v2/alerts"}
        service.usual = Reply(307, headers=location)
        alerts = start(service)
        alerts.process_alert(alert()).unwrap()
        flush_in_vain()
        assert elsewhere.asked == []
    assert ledger().pending == 1
    assert "redirect" in " ".join(fo.status().problems)
    service.usual = Reply()
    fo.flush().unwrap()
    assert ledger().delivered == 1, "corrected, and nothing lost"


def test_never_blocks_and_is_bounded(service: WebService) -> None:
    """A hanging Alertmanager costs the caller nothing; drops are counted."""
    service.usual = Reply(delay_s=30)
    alerts = start(service)
    took: list[float] = []
    for number in range(1200):
        begun = time.perf_counter()
        alerts.process_alert(alert(f"a{number}")).unwrap()
        took.append(time.perf_counter() - begun)
    took.sort()
    assert took[-1] < 5.0, "who waited for a request would wait for 10 s"
    assert took[-6] < 0.2, "a stall of the machine hits a few"
    counts = ledger()
    assert counts.accepted == 1200
    assert counts.dropped == {"queue_full": 200}
    assert counts.pending == 1000
    assert fo.flush(timeout_s=0.2).is_failure


def test_no_alertmanager_no_harm() -> None:
    """Nobody listening: success, one problem by name, a counted drop at the end."""
    address = f"http://ada:hunter2@127.0.0.1:{closed_port()}"
    fo.setup("shop", exporters=["none"], alertmanager_url=address).unwrap()
    assert "hunter2" not in repr(fo.setup("shop").unwrap().config)
    fo.setup("shop", exporters=["none"], alertmanager_url=address).unwrap()
    alerts = fo.FlextAlertService(fo.FlextContainer())
    assert alerts.process_alert(alert()).success
    failed = fo.flush(timeout_s=0.5)
    assert "1 alerts" in str(failed.error)
    problem = " ".join(wait_until(lambda: fo.status().problems))
    assert "connection refused" in problem
    assert "hunter2" not in problem
    fo.shutdown(timeout_s=0.3)
    assert ledger().dropped == {"exit": 1}


def test_credentials_of_the_address(service: WebService) -> None:
    """User and password of the address are sent as basic authentication."""
    address = service.address.replace("//", "//ada:secret@")
    start(service, alertmanager_url=address).process_alert(alert()).unwrap()
    fo.flush().unwrap()
    assert service.asked[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "value", ["localhost:9093", "ftp://x", "http://", "http://x/?a=b", "http://x:99999"]
)
def test_a_wrong_address_is_told(value: str) -> None:
    """The failure names the setting and how to write it."""
    error = str(fo.setup("shop", alertmanager_url=value).error)
    assert error.startswith("Invalid configuration: alertmanager_url: ")
    assert "http://localhost:9093" in error


@pytest.mark.parametrize("variable", ["ALERTMANAGER_URL", "ALERT_MANAGER_URL"])
def test_from_the_environment(
    service: WebService, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both names of the variable work."""
    monkeypatch.setenv(variable, service.address)
    fo.setup("shop", exporters=["none"]).unwrap()
    fo.FlextAlertService(fo.FlextContainer()).process_alert(alert()).unwrap()
    fo.flush().unwrap()
    assert len(service.asked) == 1


def test_nothing_before_setup(
    service: WebService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without setup() nothing leaves the process, whatever the environment says."""
    monkeypatch.setenv("ALERTMANAGER_URL", service.address)
    fo.FlextAlertService(fo.FlextContainer()).process_alert(alert()).unwrap()
    time.sleep(0.1)
    assert service.asked == []


def test_no_telemetry_about_ourselves(service: WebService) -> None:
    """Posting makes no span, no log record and no metric."""
    import logging

    alerts = start(service, exporters=["memory"], log_level="DEBUG")
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    handle = fo.setup(
        "shop",
        exporters=["memory"],
        log_level="DEBUG",
        alertmanager_url=service.address,
    ).unwrap()
    alerts.process_alert(alert()).unwrap()
    fo.flush().unwrap()
    memory = handle.memory
    assert memory is not None
    assert memory.spans == ()
    names = [record.log_record.event_name for record in memory.logs]
    assert names == ["flext.alert"]


PROGRAM = """
    import os, sys, time
    import flext_observability as fo

    fo.setup("shop", exporters=["none"])
    alerts = fo.FlextAlertService()
    alerts.process_alert(fo.FlextAlert(name="a", severity="info", message="m"))
    """


def test_told_before_the_program_ends(service: WebService) -> None:
    """What a short program raised has been told when it is over."""
    env = {"ALERTMANAGER_URL": service.address}
    assert run_program(PROGRAM, env=env).ok().stderr == ""
    assert [each["labels"]["alertname"] for each in told(service)] == ["a"]


def test_an_exit_keeps_its_budget() -> None:
    """Without an Alertmanager a program ends within its exit budget, and says so."""
    with WebService() as hanging:
        hanging.usual = Reply(delay_s=30)
        env = {
            "ALERTMANAGER_URL": hanging.address,
            "FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "0.5",
        }
        timed = PROGRAM + "\n    sys.stdout.write(repr(time.time()))"
        ended = run_program(timed, env=env).ok()
    assert ended.ended_at_s - float(ended.stdout) < 6.0  # else 10 s
    assert "gave up telling Alertmanager of 1 alerts" in ended.stderr


def test_an_exit_counts_alerts() -> None:
    """An alert that began and ended meanwhile is one, whatever there is to tell."""
    program = PROGRAM + (
        """
    for name in ("b", "c"):
        raised = fo.FlextAlert(name=name, severity="info", message="m")
        alerts.resolve_alert(alerts.process_alert(raised).data.id)
    print(fo.flush(0.2).error)
    """
    )
    env = {
        "ALERTMANAGER_URL": f"http://127.0.0.1:{closed_port()}",
        "FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "0.3",
    }
    ended = run_program(program, env=env).ok()
    assert "3 alerts are pending" in ended.stdout
    assert "gave up telling Alertmanager of 3 alerts" in ended.stderr


def test_from_an_exit_handler(service: WebService) -> None:
    """An alert from an exit handler that runs before ours is told too."""
    program = """
        import atexit
        import flext_observability as fo

        fo.setup("shop", exporters=["none"])
        atexit.register(
            lambda: fo.FlextAlertService().process_alert(
                fo.FlextAlert(name="late", severity="info", message="m")
            )
        )
        """
    run_program(program, env={"ALERTMANAGER_URL": service.address}).ok()
    assert [each["labels"]["alertname"] for each in told(service)] == ["late"]


NO_THREADS = """
    import threading
    import flext_observability as fo

    def refuse(self):
        raise RuntimeError("can't start new thread")

    fo.setup("shop", exporters=["none"])
    threading.Thread.start = refuse
    fo.FlextAlertService().process_alert(
        fo.FlextAlert(name="a", severity="info", message="m")
    )
    """


def test_without_threads(service: WebService) -> None:
    """Where no thread can be had, alerts are told when the program ends."""
    run_program(NO_THREADS, env={"ALERTMANAGER_URL": service.address}).ok()
    assert [each["labels"]["alertname"] for each in told(service)] == ["a"]
    env = {
        "ALERTMANAGER_URL": f"http://127.0.0.1:{closed_port()}",
        "FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "0.3",
    }
    ended = run_program(NO_THREADS, env=env).ok()
    assert "gave up telling Alertmanager of 1 alerts" in ended.stderr


def test_after_shutdown_nothing_is_told(service: WebService) -> None:
    """An alert after the end of the telemetry is processed, and goes nowhere."""
    alerts = start(service)
    fo.shutdown(20.0).unwrap()
    assert alerts.process_alert(alert()).success
    assert service.asked == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_while_alerts_are_raised(service: WebService) -> None:
    """Eight forks beside a busy thread: no child hangs, each tells its own alert."""
    program = (
        PROGRAM
        + """
    import threading

    ending = threading.Event()

    def busy():
        while not ending.is_set():
            raised = fo.FlextAlert(name="busy", severity="info", message="m")
            alerts.resolve_alert(alerts.process_alert(raised).data.id)

    thread = threading.Thread(target=busy)
    thread.start()
    for number in range(8):
        if os.fork() == 0:
            alerts.process_alert(
                fo.FlextAlert(name=f"child{number}", severity="info", message="m")
            )
            sys.exit(0)
    for _ in range(8):
        assert os.wait()[1] == 0
    ending.set()
    thread.join()
    """
    )
    run_program(program, env={"ALERTMANAGER_URL": service.address}).ok()
    names = {each["labels"]["alertname"] for each in told(service)}
    assert names >= {f"child{number}" for number in range(8)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_tells_its_own(service: WebService) -> None:
    """Parent and child each tell their own alerts, once."""
    program = (
        PROGRAM
        + """
    pid = os.fork()
    if pid == 0:
        alerts.process_alert(fo.FlextAlert(name="b", severity="info", message="m"))
        sys.exit(0)
    os.waitpid(pid, 0)
    """
    )
    run_program(program, env={"ALERTMANAGER_URL": service.address}).ok()
    names = [each["labels"]["alertname"] for each in told(service)]
    assert sorted(names) == ["a", "b"]
