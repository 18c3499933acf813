"""Exceptions that a signal handler of the host raised in the middle of our own work."""

import sys

# Where what we do ourselves is written down.
_OWN = frozenset({"flext_observability", "opentelemetry", *sys.stdlib_module_names})


def is_of_host(error: BaseException) -> bool:
    """Whether an exception that came up in our work is the host's, and must go on.

    Timeouts are made so (``signal.alarm``, Celery's soft limit): whoever swallows one
    stops it from working. Only where our work calls nothing else of the host's does
    the place where it was raised tell.

    Args:
        error: As it was caught.
    """
    step = error.__traceback__
    if step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    module = str(step.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] not in _OWN
