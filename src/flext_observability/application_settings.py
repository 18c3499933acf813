"""Settings of an application that ours are nested in."""

import dataclasses
from typing import Any, cast

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from .config import LogLevel
from .constants import FlextObservabilityConstants as C


def _replace(cls: type, name: str, default: Any) -> None:
    """Put what a ``dataclasses.field`` says where Pydantic reads it."""
    if default.default_factory is not dataclasses.MISSING:
        setattr(cls, name, Field(default_factory=default.default_factory))
    elif default.default is not dataclasses.MISSING:
        setattr(cls, name, default.default)
    else:
        delattr(cls, name)


class FlextBaseSettings(BaseSettings):
    """Base for an application's own settings.

    ``model_config`` works as in pydantic-settings; a default written with
    ``dataclasses.field(default_factory=…)`` works too.
    """

    model_config = SettingsConfigDict(extra="ignore")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Turn ``dataclasses.field`` defaults into Pydantic ones."""
        for name, default in cast("list[tuple[str, Any]]", list(vars(cls).items())):
            if isinstance(default, dataclasses.Field):
                _replace(cls, name, default)
        super().__init_subclass__(**kwargs)


class ObservabilitySettings(FlextBaseSettings):
    """The short form, for nesting in a user's own settings (``OBSERVABILITY_*``)."""

    model_config = SettingsConfigDict(env_prefix="OBSERVABILITY_", extra="ignore")

    metrics_enabled: bool = True
    tracing_enabled: bool = True
    log_level: LogLevel = "INFO"
    correlation_id_header: str = C.HEADER_CORRELATION_ID
