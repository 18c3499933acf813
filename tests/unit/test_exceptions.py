"""Captured exceptions: the text that Python would have printed, made later."""

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

# No door leads to it: what a span shows of a stack begins in our own wrapper.
CapturedException: Any = import_module(
    "flext_observability._pipeline.exceptions"
).CapturedException
FRAMES = 300


def _raise(error: BaseException) -> None:
    raise error


def _plain() -> None:
    _raise(ValueError("no such thing"))


def _chained() -> None:
    try:
        _plain()
    except ValueError as error:
        raise RuntimeError("and so it failed") from error


def _in_handler() -> None:
    try:
        _plain()
    except ValueError:
        _raise(KeyError("again"))


def _hidden() -> None:
    try:
        _plain()
    except ValueError:
        raise RuntimeError("alone") from None


def _noted() -> None:
    error = ValueError("see the note")
    error.add_note("a note\nof two lines")
    raise error


def _group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def _wrong_name() -> None:
    printable = 1
    prinntable  # type: ignore[name-defined]  # noqa: B018, F821 - that is the point
    _raise(ValueError(printable))


def _wrong_attribute() -> None:
    _ = "text".uper()  # type: ignore[attr-defined]  # that is the point


def _wrong_syntax() -> None:
    compile("a = = 1", "<somewhere>", "exec")


def _part_of_a_line() -> None:
    numbers = {"a": {"b": 0}}
    _ = 1 + (2 / numbers["a"]["b"]) + 3


def _several_lines() -> None:
    _ = sum(
        1 // number
        for number in [
            1,
            0,
        ]
    )


def _generated() -> None:
    exec("def f():\n    raise ValueError('generated')\nf()", {})  # noqa: S102 - code without a file


@pytest.mark.parametrize(
    "fail",
    [
        *(_plain, _chained, _in_handler, _hidden, _noted, _group, _wrong_name),
        *(_wrong_attribute, _wrong_syntax, _part_of_a_line, _several_lines),
        _generated,
    ],
)
def test_text(fail: Callable[[], None]) -> None:
    """It is the text of the traceback module, to the letter."""
    for _ in range(2):  # the second time it comes from the same place
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it raises
            fail()
        captured = CapturedException(caught.value)
        expected = "".join(traceback.format_exception(caught.value))
        assert captured.stack == expected


def test_depth() -> None:
    """The last frames say where it broke."""

    def down(levels: int) -> None:
        if not levels:
            raise ValueError("deep")
        down(levels - 1)

    with pytest.raises(ValueError, match="deep") as caught:
        down(600)
    captured = CapturedException(caught.value)
    expected = "".join(traceback.format_exception(caught.value, limit=-FRAMES))
    header, _, frames = expected.partition("\n")
    # Within what an attribute holds; Python itself folds what repeats.
    assert captured.stack == f"{header}\n  … [truncated]\n{frames}"


def test_a_recursion_is_cheap() -> None:
    """What is the same in hundreds of levels is looked up once, not at each of them."""

    def down(levels: int) -> None:
        if not levels:
            raise ValueError("deep")
        up(levels - 1)

    def up(levels: int) -> None:
        down(levels)

    with pytest.raises(ValueError, match="deep") as caught:
        down(FRAMES)
    captured = CapturedException(caught.value)
    looked = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal looked
        looked += event == "call" and frame.f_code.co_name == "checkcache"

    sys.setprofile(count)
    try:
        stack = captured.stack
    finally:
        sys.setprofile(None)
    assert stack.count("in up\n") > 50
    assert looked < 10


def test_a_copy_in_another_file(tmp_path: Path) -> None:
    """The same code at the same place in two files is told apart."""
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("def fail():\n    raise ValueError('copied')\n")
        found: dict[str, Any] = {}
        exec(compile((tmp_path / name).read_text(), tmp_path / name, "exec"), found)  # noqa: S102 - a file of ours
        with pytest.raises(ValueError, match="copied") as caught:
            found["fail"]()
        assert name in CapturedException(caught.value).stack


def test_nothing_is_held() -> None:
    """Neither the exception nor the values of its frames stay alive."""

    class Held:
        alive = 0

        def __init__(self) -> None:
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    def fail() -> None:
        held = Held()
        raise ValueError(type(held).__name__)

    captured = None
    try:
        fail()
    except ValueError as error:
        captured = CapturedException(error)
    assert captured is not None
    assert Held.alive == 0
    assert "fail" in captured.stack


def test_hostile() -> None:
    """An exception that cannot say what it is has no text, and no harm is done."""

    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        def __getattribute__(self, name: str) -> object:
            if name == "__notes__":
                raise RuntimeError("no")
            return super().__getattribute__(name)

    with pytest.raises(HostileError) as caught:
        _raise(HostileError())
    captured = CapturedException(caught.value)
    assert captured.message == "<unprintable>"
    assert isinstance(captured.stack, str)
    assert "HostileError" in captured.type_name
    assert sys.exc_info() == (None, None, None)
