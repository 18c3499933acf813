"""The entities: values with rules. Making one emits nothing."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from numbers import Complex, Real
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    SupportsFloat,
    SupportsIndex,
    TypeGuard,
    cast,
)
from uuid import uuid4
from weakref import ref

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WrapSerializer,
)
from pydantic_core import PydanticSerializationError

from .constants import FlextObservabilityConstants as C
from .correlation import flext_get_correlation_id
from .locks import ForkSafeLock
from .result import FlextResult

# One lock for all marks, which stay small: it is held for an instant only.
_taking = ForkSafeLock()


class Emission:
    """The mark that an entity was emitted; it is shared by all its copies."""

    __slots__ = ("_taken", "_unclaimed")

    def __init__(self) -> None:
        self._unclaimed = [True]
        self._taken: tuple[ref[object], ...] = ()

    @property
    def done(self) -> bool:
        """Whether somebody emitted it, or is about to."""
        return not self._unclaimed

    def claim(self) -> bool:
        """Take the right to emit; of all threads that ask, one gets it."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def take(self, mark: object) -> bool:
        """Whether a store, known by its mark, takes the entity for the first time.

        Args:
            mark: Can be referenced weakly; its entry here goes with the store.
        """
        with _taking:
            alive = [known for known in self._taken if known() is not None]
            if any(known() is mark for known in alive):
                return False
            self._taken = (*alive, ref(mark))
        return True

    def __eq__(self, other: object) -> bool:
        # Pydantic compares private attributes; the mark makes no difference of value.
        return isinstance(other, Emission)

    __hash__ = None  # type: ignore[assignment]  # all marks are equal

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process it is another object, and counts as new.
        return type(self), ()


def utc_now() -> datetime:
    """Give the time that entities are stamped with."""
    return datetime.now(UTC)


def _aware(moment: object) -> object:
    """Take a naive time as UTC."""
    if isinstance(moment, datetime) and moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _number(value: object, info: ValidationInfo) -> object:
    """Take what is a number as float, keep Decimal exactly, refuse anything else."""
    if info.mode == "json" and isinstance(value, str):
        try:
            return Decimal(value)  # how a Decimal stands in JSON
        except InvalidOperation as error:
            message = "must be a number"
            raise ValueError(message) from error
    if isinstance(value, Decimal):
        return value
    if not _is_real(value):
        message = "must be a number"
        raise ValueError(message)
    try:
        return float(value)
    except Exception as error:
        message = "must be a number that a float can hold"
        raise ValueError(message) from error


def _is_real(value: object) -> TypeGuard[SupportsFloat | SupportsIndex]:
    """Whether it is a number, also one of another library, such as NumPy."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    if isinstance(value, Complex):
        return isinstance(value, Real)
    # NumPy gives all its values `__float__`, texts too.
    is_text = isinstance(value, str | bytes)
    return not is_text and isinstance(value, SupportsFloat | SupportsIndex)


def _text_pairs(tags: object) -> object:
    if not isinstance(tags, Mapping):
        return tags
    pairs = cast("Mapping[object, object]", tags)
    try:
        return {str(key): str(value) for key, value in pairs.items()}
    except Exception as error:
        message = f"must become text: {type(error).__name__}"
        raise ValueError(message) from error


def is_blank(text: object) -> bool:
    """Whether a text says nothing; what was assigned may be no text at all."""
    return not isinstance(text, str) or not text.strip()


def _in_json(pairs: dict[str, object], handler: Any) -> Any:
    """Show values that JSON has no form for as text, where others may stand as is."""
    try:
        return handler(pairs)
    except PydanticSerializationError:
        return {name: _shown(value, handler) for name, value in pairs.items()}


def _shown(value: object, handler: Any) -> Any:
    try:
        return handler({"": value})[""]
    except PydanticSerializationError:
        pass
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever __str__ raises
        return "<unprintable>"


Values = Annotated[dict[str, object], WrapSerializer(_in_json, when_used="json")]
Moment = Annotated[datetime, BeforeValidator(_aware)]
Word = Annotated[str, BeforeValidator(_lower)]
Tags = Annotated[dict[str, str], BeforeValidator(_text_pairs)]


class FlextEntity(BaseModel):
    """Base of the entities: an id and rules that are checked when asked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=False)

    # Fields with a rule. Where a value has a wrong type, this one stands in for it: it
    # breaks the rule, which then tells the message.
    RULED: ClassVar[Mapping[str, Any]] = {}

    id: str = Field(default_factory=lambda: uuid4().hex)
    _emission: Emission = PrivateAttr(default_factory=Emission)

    def validate_business_rules(self) -> FlextResult[None]:
        """Check the rules of the entity; the first broken one gives the message."""
        return FlextResult[None].ok(None)

    def validate_domain_rules(self) -> FlextResult[None]:
        """Do the same as :meth:`validate_business_rules`."""
        return self.validate_business_rules()

    @classmethod
    def explain(cls, fields: Mapping[str, Any], error: ValidationError) -> str:
        """Say what is wrong with values that make no entity.

        Args:
            fields: The values.
            error: What came of them.

        Returns:
            The message of the first broken rule; else the first field of a wrong type
            and the reason.
        """
        problems = error.errors(include_url=False, include_context=False)
        wrong = {str(each["loc"][0]): each["msg"] for each in problems if each["loc"]}
        legal = {name: value for name, value in fields.items() if name not in wrong}
        legal |= {name: cls.RULED[name] for name in wrong if name in cls.RULED}
        try:
            broken = cls.model_validate(legal).validate_business_rules()
        except ValidationError:
            broken = FlextResult[None].ok(None)
        field, why = next(iter(wrong.items()), ("value", problems[0]["msg"]))
        return broken.error or f"{field}: {why}"

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self:
        """Copy the entity, with other values where they are given.

        A copy with the same id is the same entity: once recorded, it is not recorded
        again, whatever else was changed. Give it another id to make a new entity.

        Args:
            update: Values by field; they are not checked.
            deep: Whether the values are copied too.
        """
        copied = super().model_copy(update=update, deep=deep)
        if copied.id != self.id:
            copied.begin_anew()
        return copied

    def begin_anew(self) -> None:
        """Be an entity that was never emitted."""
        self._emission = Emission()

    def emission(self) -> Emission:
        """Give the mark that keeps this entity from being emitted twice."""
        return self._emission

    def share_emission(self, mark: Emission) -> None:
        """Take the mark of an entity that this one is a copy of."""
        self._emission = mark


class FlextMetric(FlextEntity):
    """One measurement: a point on the OTel instrument of its name, type and unit."""

    RULED: ClassVar[Mapping[str, Any]] = {
        "name": "",
        "value": math.nan,
        "metric_type": "",
    }

    name: str
    value: Annotated[float | Decimal, BeforeValidator(_number)]
    unit: str = ""
    timestamp: Moment = Field(default_factory=utc_now)
    tags: Tags = Field(default_factory=dict[str, str])
    metric_type: Word = "gauge"

    def validate_business_rules(self) -> FlextResult[None]:
        """Check name, value and type, in this order."""
        if is_blank(self.name) or len(self.name) > C.METRIC_NAME_LENGTH_LIMIT:
            return FlextResult[None].fail("Invalid metric name")
        if not self._has_legal_value():
            return FlextResult[None].fail("Invalid metric value")
        if self.metric_type not in C.METRIC_TYPES:
            return FlextResult[None].fail("Invalid metric type")
        return FlextResult[None].ok(None)

    def _has_legal_value(self) -> bool:
        value: object = self.value  # an assignment may have put in anything
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return False
        try:
            is_finite = math.isfinite(float(value))
        except (ValueError, OverflowError):  # a signaling NaN; an int beyond floats
            return False
        return is_finite and (self.metric_type == "gauge" or value >= 0)


def _current_trace_id() -> str | None:
    ids = _current_ids()
    return ids[0] if ids else None


def _current_span_id() -> str | None:
    ids = _current_ids()
    return ids[1] if ids else None


def _current_ids() -> tuple[str, str] | None:
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


class FlextLogEntry(FlextEntity):
    """One log line with context, joined to the span it was made in."""

    RULED: ClassVar[Mapping[str, Any]] = {"level": "", "message": ""}

    level: Word
    message: str
    context: Values = Field(default_factory=dict[str, object])
    timestamp: Moment = Field(default_factory=utc_now)
    correlation_id: str = Field(default_factory=flext_get_correlation_id)
    trace_id: str | None = Field(default_factory=_current_trace_id)
    span_id: str | None = Field(default_factory=_current_span_id)

    def validate_business_rules(self) -> FlextResult[None]:
        """Check level and message, in this order."""
        if self.level not in C.LOG_LEVELS:
            return FlextResult[None].fail("Invalid log level")
        if is_blank(self.message):
            return FlextResult[None].fail("Invalid log message")
        return FlextResult[None].ok(None)


class FlextAlert(FlextEntity):
    """Something that a person should know of."""

    RULED: ClassVar[Mapping[str, Any]] = {
        "name": "",
        "severity": "",
        "message": "",
        "status": "",
    }

    name: str
    severity: Word
    message: str
    details: Values = Field(default_factory=dict[str, object])
    source: str = ""
    tags: Tags = Field(default_factory=dict[str, str])
    status: Word = "active"
    created_at: Moment = Field(default_factory=utc_now)
    correlation_id: str = Field(default_factory=flext_get_correlation_id)

    @property
    def alert_id(self) -> str:
        """The same as ``id``."""
        return self.id

    @property
    def title(self) -> str:
        """The same as ``name``."""
        return self.name

    @property
    def timestamp(self) -> datetime:
        """The same as ``created_at``."""
        return self.created_at

    def validate_business_rules(self) -> FlextResult[None]:
        """Check name, severity, message and status, in this order."""
        if is_blank(self.name):
            return FlextResult[None].fail("Invalid alert name")
        if self.severity not in C.ALERT_SEVERITIES:
            return FlextResult[None].fail("Invalid severity level")
        if is_blank(self.message):
            return FlextResult[None].fail("Invalid alert message")
        if self.status not in C.ALERT_STATUSES:
            return FlextResult[None].fail("Invalid alert status")
        return FlextResult[None].ok(None)


class FlextHealthCheck(FlextEntity):
    """How one component is, as it was reported."""

    RULED: ClassVar[Mapping[str, Any]] = {"name": "", "status": ""}

    name: str
    status: Word
    message: str = ""
    details: Values = Field(default_factory=dict[str, object])
    timestamp: Moment = Field(default_factory=utc_now)
    dependencies: list[str] = Field(default_factory=list[str])

    @property
    def component(self) -> str:
        """The same as ``name``."""
        return self.name

    def validate_business_rules(self) -> FlextResult[None]:
        """Check name and status, in this order."""
        if is_blank(self.name):
            return FlextResult[None].fail("Invalid health check name")
        if self.status not in C.HEALTH_STATUSES:
            return FlextResult[None].fail("Invalid health status")
        return FlextResult[None].ok(None)
