"""Metrics of short jobs before the real Pushgateway."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flext_observability as fo
from tests.fixtures import operators
from tests.fixtures.collector import closed_port
from tests.fixtures.operators import get
from tests.fixtures.programs import run_program
from tests.fixtures.web_service import Reply, WebService

JOB = """
    import os, sys, time
    import flext_observability as fo

    fo.setup(exporters=["none"])
    fo.flext_counter("rows", unit="{row}").add(42, {"table": "orders"})

    @fo.flext_monitor_function("load")
    def load():
        return 1

    load()
    """


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    with operators.pushgateway(tmp_path) as running:
        yield running
        fo.shutdown(timeout_s=1.0)


def lines(address: str, *parts: str) -> list[str]:
    """The samples that hold all of these texts."""
    found = get(f"{address}/metrics").decode().splitlines()
    return [line for line in found if all(part in line for part in parts)]


def test_a_short_job(gateway: str) -> None:
    """What a job counted is read back after its end, under its job alone."""
    env = {"PROMETHEUS_PUSH_GATEWAY": gateway, "OTEL_SERVICE_NAME": "nightly/load"}
    run_program(JOB, env=env).ok()
    (rows,) = lines(gateway, "rows_total{", 'table="orders"')
    assert 'job="nightly/load"' in rows
    assert 'instance=""' in rows
    assert rows.endswith(" 42")
    assert lines(gateway, "flext_operation_duration_count", '"load"')[0].endswith(" 1")
    run_program(JOB, env=env).ok()
    assert len(lines(gateway, "rows_total{")) == 1, "the next run replaces the group"


def test_a_stated_instance_has_its_own_group(gateway: str) -> None:
    """Instances that have a lasting name do not overwrite each other."""
    for name in ("a", "b"):
        env = {
            "PROMETHEUS_PUSH_GATEWAY": gateway,
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={name}",
        }
        run_program(JOB, env=env).ok()
    found = lines(gateway, "rows_total{")
    assert len(found) == 2
    assert all(f'instance="{name}"' in found[at] for at, name in enumerate("ab"))


def test_on_demand_and_again(gateway: str) -> None:
    """`push()` on the handle pushes at once; metrics of the page replace the last."""
    handle = fo.setup("shop", exporters=["none"], push_gateway_url=gateway).unwrap()
    counter = fo.flext_counter("orders")
    for expected in ("1", "2"):
        counter.add(1)
        handle.push().unwrap()
        assert lines(gateway, "orders_total{")[0].endswith(f" {expected}")


def test_every_interval(gateway: str) -> None:
    """A job that lasts pushes every `metrics_export_interval_s`."""
    fo.setup(
        "shop",
        exporters=["none"],
        push_gateway_url=gateway,
        metrics_export_interval_s=1,
    ).unwrap()
    fo.flext_counter("orders").add(1)
    operators.wait_for(lambda: lines(gateway, "orders_total{"), 20.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_group_alone(gateway: str) -> None:
    """A child does not replace what its parent pushes."""
    program = (
        JOB
        + """
    pid = os.fork()
    if pid == 0:
        load()
        sys.exit(0)
    os.waitpid(pid, 0)
    """
    )
    run_program(program, env={"PROMETHEUS_PUSH_GATEWAY": gateway}).ok()
    assert lines(gateway, "rows_total{")[0].endswith(" 42")


def test_no_gateway_no_harm() -> None:
    """Nobody listening: a failure by name, and an exit within its budget."""
    address = f"http://ada:hunter2@127.0.0.1:{closed_port()}"
    handle = fo.setup("shop", exporters=["none"], push_gateway_url=address).unwrap()
    error = str(handle.push().error)
    assert "connection refused" in error
    assert "hunter2" not in error
    assert "Pushgateway" in " ".join(fo.status().problems)
    fo.shutdown(timeout_s=0.5)
    nowhere = fo.setup("shop", exporters=["none"]).unwrap().push()
    assert "push_gateway_url" in str(nowhere.error)


def test_without_threads(gateway: str) -> None:
    """Where no thread can be had, the page is pushed when the program ends."""
    program = (
        """
    import threading

    begin = threading.Thread.start

    def start(self):
        if self.name.startswith("flext"):
            raise RuntimeError("can't start new thread")
        begin(self)

    threading.Thread.start = start
    """
        + JOB
    )
    run_program(program, env={"PROMETHEUS_PUSH_GATEWAY": gateway}).ok()
    assert lines(gateway, "rows_total{")[0].endswith(" 42")


def test_a_refusal_is_told() -> None:
    """What the Pushgateway says is the failure's text; a redirect leads nowhere."""
    with WebService() as service, WebService() as elsewhere:
        handle = fo.setup(
            "shop", exporters=["none"], push_gateway_url=service.address
        ).unwrap()
        service.replies.append(Reply(400, body=b"inconsistent metrics"))
        assert "inconsistent metrics" in str(handle.push().error)
        service.replies.append(Reply(308, {"Location": elsewhere.address}))
        assert "redirect" in str(handle.push().error)
        assert fo.status().problems
        handle.push().unwrap()
        assert fo.status().problems == ()
        assert elsewhere.asked == []
        fo.shutdown(20.0).unwrap()


def test_a_gateway_that_hangs_keeps_the_exit_budget() -> None:
    """The last push ends with the exit budget."""
    timed = JOB + "\n    print(time.time())"
    with WebService() as hanging:
        hanging.usual = Reply(delay_s=30)
        env = {
            "PROMETHEUS_PUSH_GATEWAY": hanging.address,
            "FLEXT_OBSERVABILITY_EXIT_BUDGET_S": "0.5",
        }
        ended = run_program(timed, env=env).ok()
        assert [asked.method for asked in hanging.asked] == ["PUT"]
        assert hanging.asked[0].path == "/metrics/job/flext-service"
    assert ended.ended_at_s - float(ended.stdout) < 6.0  # else 10 s
