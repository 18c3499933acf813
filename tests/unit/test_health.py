"""The health service: reports, aggregation, streaks, registered checks, the machine."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.programs import run_program

import flext_observability as fo

STATUSES = ["healthy", "degraded", "unhealthy"]


@pytest.fixture
def health() -> fo.FlextHealthService:
    """A service on a container of its own."""
    return fo.FlextHealthService(fo.FlextContainer())


def report(
    health: fo.FlextHealthService, name: str, status: str, *needs: str, **more: Any
) -> fo.FlextHealthCheck:
    """Report a component."""
    check = fo.FlextHealthCheck(
        name=name, status=status, dependencies=list(needs), **more
    )
    return health.execute_health_check(check).unwrap()


def overall(health: fo.FlextHealthService) -> dict[str, Any]:
    return health.get_overall_health().unwrap()


def alerts(health: fo.FlextHealthService) -> list[fo.FlextAlert]:
    return fo.FlextAlertService(health.container).get_alerts().unwrap()


# --- reports --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("", "healthy", "Invalid health check name"),
        ("db", "ill", "Invalid health status"),
    ],
)
def test_invalid_reports(
    health: fo.FlextHealthService, name: str, status: str, message: str
) -> None:
    """They are failures with the rule's message, and say nothing of the component."""
    check = fo.FlextHealthCheck(name=name, status=status)
    result = health.execute_health_check(check)
    assert result.error == f"Health check validation failed: {message}"
    assert overall(health)["overall_status"] == "unknown"


@pytest.mark.parametrize("wrong", [None, "db", 3, {"name": "db"}])
def test_what_is_no_report(health: fo.FlextHealthService, wrong: Any) -> None:
    """It is a failure, not an exception."""
    error = health.execute_health_check(wrong).error
    assert str(error).startswith("Health check validation failed: ")


def test_history(health: fo.FlextHealthService) -> None:
    """The last hundred records of a component, the oldest first."""
    for number in range(105):
        report(health, "db", "healthy", message=str(number))
    records = health.get_component_health_history("db").unwrap()
    assert [record["message"] for record in records] == [
        str(number) for number in range(5, 105)
    ]
    assert records[0]["status"] == "healthy"
    assert health.get_component_health_history("none").data == []


def test_a_report_counts_once(health: fo.FlextHealthService) -> None:
    """Given again, also as a copy, it changes nothing."""
    check = report(health, "db", "degraded")
    for same in (check, check.model_copy(), check):
        health.execute_health_check(same).unwrap()
    assert len(health.get_component_health_history("db").unwrap()) == 1
    assert overall(health)["summary"]["health_checks_performed"] == 1


def test_a_report_that_was_spoilt(health: fo.FlextHealthService) -> None:
    """What its owner assigns, before or later, does not break the whole."""
    spoilt: Any = fo.FlextHealthCheck(name="db", status="healthy")
    spoilt.dependencies = None
    assert health.execute_health_check(spoilt).is_failure
    later: Any = report(health, "cache", "healthy")
    later.status = later.dependencies = 3
    assert overall(health)["overall_status"] == "healthy"


def test_services_on_a_container_share() -> None:
    """What one knows, the others know; another container knows nothing."""
    container = fo.FlextContainer()
    report(fo.FlextHealthService(container), "db", "healthy")
    assert overall(fo.FlextHealthService(container))["overall_status"] == "healthy"
    other = fo.FlextHealthService(fo.FlextContainer())
    assert overall(other)["overall_status"] == "unknown"


def test_components_are_bounded(health: fo.FlextHealthService) -> None:
    """Those reported last stay."""
    report(health, "first", "healthy")
    for number in range(999):
        report(health, f"c{number}", "healthy")
    report(health, "first", "healthy")
    report(health, "one more", "healthy")
    components = overall(health)["components"]
    assert len(components) == 501
    assert {"first", "one more", "c998"} <= set(components)
    assert "c0" not in components


# --- aggregation ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ("", "unknown"),
        ("hhh", "healthy"),
        ("hd", "degraded"),
        ("d", "degraded"),
        ("hhu", "degraded"),
        ("hu", "unhealthy"),
        ("du", "unhealthy"),
        ("hhdu", "degraded"),
        ("u", "unhealthy"),
    ],
)
def test_overall_status(
    health: fo.FlextHealthService, statuses: str, expected: str
) -> None:
    """All healthy: healthy; at least half unhealthy: unhealthy; else degraded."""
    words = {word[0]: word for word in STATUSES}
    for number, letter in enumerate(statuses):
        report(health, f"c{number}", words[letter])
    found = overall(health)
    assert found["overall_status"] == expected
    total = len(statuses)
    assert found["health_score"] == (statuses.count("h") / total if total else 1.0)
    assert found["summary"] == {
        "total_components": total,
        "healthy_components": statuses.count("h"),
        "degraded_components": statuses.count("d"),
        "unhealthy_components": statuses.count("u"),
        "health_checks_performed": total,
    }
    assert found["uptime_seconds"] >= 0
    assert found["timestamp"]


def test_the_latest_report_counts(health: fo.FlextHealthService) -> None:
    """A component is as it was reported last."""
    for status in ("unhealthy", "healthy"):
        report(health, "db", status, details={"rows": 3})
    found = overall(health)
    assert found["overall_status"] == "healthy"
    assert found["components"]["db"]["details"] == {"rows": 3}


def test_dependencies(health: fo.FlextHealthService) -> None:
    """Whoever needs what is not healthy is degraded, along the chain and in circles."""
    report(health, "page", "healthy", "shop")
    report(health, "shop", "healthy", "db", "page")
    report(health, "db", "unhealthy")
    report(health, "mail", "healthy", "nobody reported this")
    found = overall(health)
    assert found["summary"]["degraded_components"] == 2
    assert found["summary"]["healthy_components"] == 1
    assert found["components"]["page"]["status"] == "healthy"
    assert found["components"]["page"]["effective_status"] == "degraded"
    report(health, "db", "healthy")
    assert overall(health)["overall_status"] == "healthy"


NAMES = st.sampled_from("abcde")


@given(
    st.dictionaries(
        NAMES, st.tuples(st.sampled_from(STATUSES), st.sets(NAMES, max_size=3))
    )
)
def test_any_graph_adds_up(components: Mapping[str, Any]) -> None:
    """Every component has one status, never better than reported or than its needs."""
    health = fo.FlextHealthService(fo.FlextContainer())
    for name, (status, needs) in components.items():
        report(health, name, status, *needs)
    found = overall(health)
    shown = {n: r["effective_status"] for n, r in found["components"].items()}
    assert sum(list(found["summary"].values())[1:4]) == len(components)
    for name, (status, needs) in components.items():
        ill = [need for need in needs if shown.get(need, "healthy") != "healthy"]
        expected = "degraded" if status == "healthy" and ill else status
        assert shown[name] == expected


# --- streaks --------------------------------------------------------------------------


def test_streak(health: fo.FlextHealthService) -> None:
    """The third report in a row raises one alert; a healthy one ends the streak."""
    for status in ("degraded", "unhealthy"):
        report(health, "db", status)
    assert alerts(health) == []
    for _ in range(5):
        report(health, "db", "unhealthy", message="no answer")
    (alert,) = alerts(health)
    assert (alert.name, alert.severity) == ("db_unhealthy", "error")
    assert "no answer" in alert.message
    report(health, "db", "healthy")
    for _ in range(3):
        report(health, "db", "degraded")
    assert [alert.name for alert in alerts(health)] == ["db_unhealthy"] * 2


def test_streak_settings(health: fo.FlextHealthService) -> None:
    """Length and alert are settings."""
    fo.setup("shop", exporters=["none"], health_failure_threshold=1).unwrap()
    report(health, "db", "unhealthy")
    assert len(alerts(health)) == 1
    fo.setup("shop", exporters=["none"], health_alert_on_failure=False).unwrap()
    for _ in range(4):
        report(health, "cache", "unhealthy")
    assert len(alerts(health)) == 1
    bad = fo.setup("shop", exporters=["none"], health_failure_threshold=11)
    assert "health_failure_threshold" in str(bad.error)


def test_eight_threads_raise_one_alert(health: fo.FlextHealthService) -> None:
    """However many report, a streak raises one alert, and no report is lost."""

    def work() -> None:
        for _ in range(50):
            report(health, "db", "unhealthy")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alerts(health)) == 1
    assert overall(health)["summary"]["health_checks_performed"] == 400


# --- the machine ----------------------------------------------------------------------


def test_system_check(
    health: fo.FlextHealthService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of memory, disk, threads and the library; without psutil no memory."""
    found = health.perform_system_health_check().unwrap()
    assert found["skipped"] == []
    for name in ("memory", "disk", "threads", "observability_service"):
        assert found[name]["status"] in STATUSES
    assert 0 < found["memory"]["percent"] < 100
    assert found["threads"]["count"] >= 1
    assert overall(health)["overall_status"] == "unknown"

    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    found = health.perform_system_health_check().unwrap()
    assert "memory" not in found
    assert found["skipped"] == ["memory"]
    assert found["disk"]["status"] in STATUSES


@pytest.mark.parametrize(
    ("others", "status"), [(0, "healthy"), (50, "degraded"), (100, "unhealthy")]
)
def test_thread_limits(health: fo.FlextHealthService, others: int, status: str) -> None:
    """Degraded from 50 threads, unhealthy from 100."""
    release = threading.Event()
    threads = [threading.Thread(target=release.wait) for _ in range(others)]
    for thread in threads:
        thread.start()
    try:
        found = health.perform_system_health_check().unwrap()["threads"]
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert found["count"] >= others
    assert found["status"] == status


@pytest.mark.parametrize(
    ("percent", "status"),
    [(79.9, "healthy"), (80, "degraded"), (94.9, "degraded"), (95, "unhealthy")],
)
def test_memory_limits(
    health: fo.FlextHealthService,
    monkeypatch: pytest.MonkeyPatch,
    percent: float,
    status: str,
) -> None:
    """Degraded from 80 %, unhealthy from 95 %."""
    import psutil

    real = psutil.virtual_memory()._replace(percent=percent)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real)
    found = health.perform_system_health_check().unwrap()["memory"]
    assert (found["percent"], found["status"]) == (percent, status)


# --- registered checks ----------------------------------------------------------------


async def coroutine() -> fo.FlextResult[str]:
    await asyncio.sleep(0.001)
    return fo.FlextResult[str].fail("no route")


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (lambda: True, "healthy", ""),
        (lambda: None, "healthy", ""),
        (lambda: False, "unhealthy", ""),
        (lambda: "Degraded", "degraded", ""),
        (lambda: {"status": "degraded", "message": "slow"}, "degraded", "slow"),
        (lambda: fo.FlextResult.ok("degraded"), "degraded", ""),
        (coroutine, "unhealthy", "no route"),
        (lambda: 1 / 0, "unhealthy", "ZeroDivisionError: division by zero"),
        (lambda: 7, "unhealthy", "unknown answer: 7"),
        (
            lambda: fo.FlextHealthCheck(name="x", status="degraded", message="m"),
            "degraded",
            "m",
        ),
    ],
)
def test_answers(
    health: fo.FlextHealthService, answer: Any, status: str, message: str
) -> None:
    """Sync or async, a check may say it in many ways; an exception is unhealthy."""
    health.register_check("db", answer, dependencies=["net"]).unwrap()
    (check,) = health.run_checks().unwrap()
    assert (check.name, check.status) == ("db", status)
    assert check.message == message
    assert check.dependencies == ["net"]
    assert overall(health)["components"]["db"]["status"] == status


def test_an_answer_that_is_no_status(health: fo.FlextHealthService) -> None:
    """Running says which check is at fault."""
    health.register_check("db", lambda: {"status": "so so"}).unwrap()
    assert "Invalid health status" in str(health.run_checks().error)


@pytest.mark.parametrize("is_async", [False, True])
def test_timeout(health: fo.FlextHealthService, *, is_async: bool) -> None:
    """A check that hangs is unhealthy in time, and holds up no other one."""
    release = threading.Event()

    async def hang() -> None:
        await asyncio.sleep(30)

    health.register_check(
        "hangs", hang if is_async else lambda: release.wait(10), timeout_s=0.2
    ).unwrap()
    health.register_check("db", lambda: True).unwrap()
    began = time.monotonic()
    for _ in range(2):
        checks = {check.name: check for check in health.run_checks().unwrap()}
        assert checks["hangs"].status == "unhealthy"
        assert checks["db"].status == "healthy"
    assert time.monotonic() - began < 9
    hanging = [t for t in threading.enumerate() if t.name == "flext-health-hangs"]
    assert len(hanging) <= 1
    release.set()
    for thread in hanging:
        thread.join(5)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("", lambda: True), {}),
        ((3, lambda: True), {}),
        (("db", "no function"), {}),
        (("db", lambda: True), {"timeout_s": 0}),
        (("db", lambda: True), {"timeout_s": "soon"}),
        (("db", lambda: True), {"timeout_s": float("inf")}),
        (("db", lambda: True), {"dependencies": 3}),
        ((), {}),
    ],
)
def test_bad_registrations(
    health: fo.FlextHealthService, arguments: Any, options: Any
) -> None:
    """They are failures."""
    assert health.register_check(*arguments, **options).is_failure
    assert health.run_checks().data == []


def test_names_are_taken_once(health: fo.FlextHealthService) -> None:
    """A second check of a name fails and names it, until the first is taken out."""
    health.register_check("db", lambda: True).unwrap()
    taken = health.register_check("db", lambda: False)
    assert taken.error == "Health check 'db' already registered"
    health.unregister_check("db").unwrap()
    assert health.unregister_check("db").error == "Health check 'db' not found"
    assert health.register_check("db", lambda: False).success


def test_a_check_that_gives_the_same_object(health: fo.FlextHealthService) -> None:
    """Every round is a report of its own, of every component that gives the object."""
    down = fo.FlextHealthCheck(name="any", status="unhealthy", details={"at": 1})
    health.register_check("db", lambda: down).unwrap()
    health.register_check("cache", lambda: down).unwrap()
    for _ in range(3):
        health.run_checks().unwrap()
    found = overall(health)
    assert set(found["components"]) == {"db", "cache"}
    assert found["summary"]["health_checks_performed"] == 6
    assert {each.name for each in alerts(health)} == {"db_unhealthy", "cache_unhealthy"}
    assert (down.name, down.details) == ("any", {"at": 1})


def test_a_copy_with_another_id_is_another_report(
    health: fo.FlextHealthService,
) -> None:
    """A copy with the same id is the same report, whatever else was changed."""
    first = report(health, "db", "healthy")
    changed = {"status": "unhealthy"}
    health.execute_health_check(first.model_copy(update=changed)).unwrap()
    assert overall(health)["overall_status"] == "healthy"
    anew = first.model_copy(update={**changed, "id": "another"})
    health.execute_health_check(anew).unwrap()
    assert overall(health)["overall_status"] == "unhealthy"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_during_a_round() -> None:
    """The child runs its own round, though the parent's never ends there."""
    program = """
        import os, signal, threading, time
        import flext_observability as fo

        health = fo.FlextHealthService(fo.FlextContainer())
        began = threading.Event()
        health.register_check("slow", lambda: began.set() or time.sleep(0.5))
        round_of_parent = threading.Thread(target=health.run_checks)
        round_of_parent.start()
        began.wait()
        if child := os.fork():
            status = os.waitpid(child, 0)[1]
            print("child", os.waitstatus_to_exitcode(status))
            round_of_parent.join()
        else:
            signal.alarm(25)
            os._exit(0 if health.run_checks().success else 1)
        """
    assert run_program(program).ok().lines == ["child 0"]


def test_answers_are_copies(health: fo.FlextHealthService) -> None:
    """What a reader changes is not in the next answer."""
    report(health, "db", "healthy", "net", details={"x": 1})
    for _ in range(2):
        (record,) = health.get_component_health_history("db").unwrap()
        for found in (record, overall(health)["components"]["db"]):
            assert (found["details"], found["dependencies"]) == ({"x": 1}, ["net"])
            found["details"]["z"] = 5
            found["dependencies"].append("z")


def test_without_a_working_directory(
    health: fo.FlextHealthService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is measured all the same."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert health.perform_system_health_check().success
