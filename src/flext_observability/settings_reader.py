"""Settings read from arguments and environment, whatever form they have."""

from collections.abc import Mapping

from .result import FlextResult
from .settings import Settings, plain_settings, settings_or


def read_settings(stated: Mapping[str, object]) -> FlextResult[Settings]:
    """Read arguments and environment, or say which setting is wrong.

    Args:
        stated: Fields by name, the strongest source.

    Returns:
        The settings, or the failure ``Invalid configuration: <field>: <reason>``.
    """
    try:
        return FlextResult.ok(plain_settings(stated))
    except Exception:  # noqa: BLE001 - Pydantic accepts more, and says what is wrong
        from .config import make_config

        return make_config(stated).map(lambda config: config.settings())


def settings_in_force() -> Settings:
    """Give the settings of ``setup()``, else those of the environment.

    Raises:
        FlextObservabilityConfigurationError: A variable holds no legal value.
    """
    return settings_or(lambda: read_settings({}).unwrap())
