"""Who sends: the resource that every span, metric and log record carries."""

import os
import platform
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from opentelemetry.sdk.resources import Resource

from ..settings import Settings
from .redaction import Redactor
from .values import clean_attributes

# A container id is 64 hex digits, in cgroup v1 paths and in the mounts of cgroup v2.
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_CONTAINER_SOURCES = (
    ("/proc/self/cgroup", ("docker", "kubepods", "containerd", "crio", "libpod")),
    ("/proc/self/mountinfo", ("/containers/", "/overlay-containers/", "/sandboxes/")),
)


def build_resource(config: Settings, redactor: Redactor) -> Resource:
    """Describe this process, without secrets.

    Weakest first: what we find out, the SDK's detectors (``OTEL_RESOURCE_ATTRIBUTES``,
    ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``), settings named by an argument or one of
    our variables, ``resource_attributes``.

    Args:
        config: The settings.
        redactor: Takes secrets out.
    """
    # Resource.create runs the detectors; ours go underneath what they find.
    detected = Resource.create()
    found = {**_process(), **_host(), **_container()}
    attributes = {**found, **dict(detected.attributes)}
    for field, name in (
        ("service_version", "service.version"),
        ("service_namespace", "service.namespace"),
        ("environment", "deployment.environment.name"),
        ("service_name", "service.name"),
    ):
        value = getattr(config, field)
        if value is not None and (config.is_stated(field) or name not in attributes):
            attributes[name] = value
    if str(attributes.get("service.name", "")).startswith("unknown_service"):
        attributes["service.name"] = config.service_name
    attributes |= clean_attributes(config.resource_attributes)
    attributes.setdefault("service.instance.id", str(uuid4()))
    # The environment may hold what no UTF-8 does.
    legal = redactor.attributes(clean_attributes(attributes))
    return Resource(cast("Any", legal), detected.schema_url)


def is_instance_stated(config: Settings) -> bool:
    """Whether somebody named this instance, rather than chance."""
    key = "service.instance.id"
    variable = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return key in config.resource_attributes or key in variable


def renewed_resource(resource: Resource, *, is_instance_stated: bool) -> Resource:
    """Describe a forked child: another process, another instance unless stated."""
    from uuid import uuid4

    renewed: dict[str, str | int] = {"process.pid": os.getpid()}
    if not is_instance_stated:
        renewed["service.instance.id"] = str(uuid4())
    return resource.merge(Resource(dict(renewed)))


def _process() -> dict[str, str | int]:
    return {
        "process.pid": os.getpid(),
        "process.executable.name": Path(sys.executable or "python").name,
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }


def _host() -> dict[str, str]:
    found = {"host.arch": platform.machine(), "os.type": platform.system().lower()}
    with suppress(OSError):
        found["host.name"] = socket.gethostname()
    return {name: value for name, value in found.items() if value}


def _container() -> dict[str, str]:
    for source, signs in _CONTAINER_SOURCES:
        try:
            lines = Path(source).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        for line in lines:
            if any(sign in line for sign in signs):
                match = _CONTAINER_ID.search(line)
                if match:
                    return {"container.id": match.group()}
    return {}
