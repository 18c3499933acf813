"""The base class for services of an application's own."""

from ..container import FlextContainer
from ..logs import FlextLogger, get_logger
from ..result import FlextResult
from .membership import container_or_global


class FlextDomainService:
    """A service with a container and a logger; a plain class in everything else.

    Subclasses set what they like after ``super().__init__()``, and override
    :meth:`execute`.
    """

    def __init__(self, container: FlextContainer | None = None) -> None:
        """Make the service.

        Args:
            container: The process-wide one when not given.
        """
        self.container = container_or_global(container)
        self.logger: FlextLogger = get_logger(type(self).__qualname__)

    def validate_business_rules(self) -> FlextResult[None]:
        """Check the rules of the service; there are none until a subclass has some."""
        return FlextResult[None].ok(None)

    def execute(self) -> FlextResult[object]:
        """Do the work of the service; a failure until a subclass does it."""
        name = type(self).__qualname__
        return FlextResult[object].fail(f"{name} does not implement execute()")
