"""What a variable may say: each kind of value reads its text, or says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

T = TypeVar("T")


class SettingsError(Exception):
    """A setting must be changed before the server can start; the message is for the operator."""


def _plain(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value.

    Args:
        read: raises `ValueError` for a text that is not allowed.
        allowed: completes the sentence "must be ...".
        show: a text that `read` reads as this value.
    """

    read: Callable[[str], T]
    allowed: str
    show: Callable[[Any], str] = _plain


class Group(Protocol):
    """A frozen dataclass whose fields are made by `setting`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def setting(variable: str, kind: Kind[T], default: T, *, secret: bool = False) -> T:
    """Declare a field of a group: read from `variable`, else `default`.

    A secret is never shown, neither in errors nor in descriptions.
    """
    return field(
        default=default,
        repr=not secret,
        metadata={"variable": variable, "kind": kind, "secret": secret},
    )


def read_group(group: type[T], env: Mapping[str, str]) -> T:
    """A group from the environment. An empty variable counts as unset.

    Raises:
        SettingsError: a variable holds something that is not allowed; it names the variable, its
            text and what is allowed.
    """
    given: dict[str, Any] = {}
    for item in fields(group):  # type: ignore[arg-type]
        text = env.get(item.metadata["variable"], "")
        if text:
            given[item.name] = _read(item, text)
    return group(**given)


def describe_group(group: Group) -> dict[str, str]:
    """Every variable of a group with the value in force, secrets masked."""
    return {
        item.metadata["variable"]: _shown(item, getattr(group, item.name)) for item in fields(group)
    }


def _read(item: Field[Any], text: str) -> Any:
    kind: Kind[Any] = item.metadata["kind"]
    try:
        return kind.read(text)
    except ValueError:
        shown = "***" if item.metadata["secret"] else repr(text)
        raise SettingsError(
            f"{item.metadata['variable']}={shown} cannot be used: must be {kind.allowed}"
        ) from None


def _shown(item: Field[Any], value: object) -> str:
    if item.metadata["secret"] and value:
        return "***"
    if value is None:
        return ""
    kind: Kind[Any] = item.metadata["kind"]
    return kind.show(value)


def short(most: int) -> Kind[str]:
    """A text of at most so many characters."""

    def read(text: str) -> str:
        if len(text) > most:
            raise ValueError
        return text

    return Kind(read, f"at most {most} characters")


def whole(least: int, most: int | None = None) -> Kind[int]:
    """A whole number within bounds, both included."""

    def read(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError
        return number

    bound = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Kind(read, f"a whole number {bound}")


def number(*, above: float | None = None, least: float | None = None) -> Kind[float]:
    """A finite number, above a bound or not below one."""

    def read(text: str) -> float:
        value = float(text)
        if not abs(value) < float("inf"):
            raise ValueError
        if (above is not None and value <= above) or (least is not None and value < least):
            raise ValueError
        return value

    bound = "" if above is None else f" above {above:g}"
    bound += "" if least is None else f" of at least {least:g}"
    return Kind(read, f"a finite number{bound}")


def choice(*names: str, also: Mapping[str, str] | None = None) -> Kind[str]:
    """One of these names, in any case; `also` maps other spellings to them."""
    spellings = {name: name for name in names} | dict(also or {})

    def read(text: str) -> str:
        found = spellings.get(text.lower())
        if found is None:
            raise ValueError
        return found

    return Kind(read, " or ".join((", ".join(names[:-1]), names[-1])))


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError
    return text == "1"


def _true_or_false(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_SHARES = {"off": 0.0, "all": 1.0}
_LEAST_SHARE = 1e-6


def _share(text: str) -> float:
    share = _SHARES.get(text.lower())
    if share is None:
        share = float(text)
        if not _LEAST_SHARE <= share < 1:
            raise ValueError
    return share


def _shown_share(share: float) -> str:
    return next((name for name, each in _SHARES.items() if each == share), f"{share:g}")


SECONDS = number(above=0)
COUNT = whole(1)
# 0 is no limit.
LIMIT = whole(0)
PORT = whole(1, 65535)
SWITCH = Kind(_switch, "1 or 0", show=lambda on: str(int(on)))
TRUE_OR_FALSE = Kind(_true_or_false, "true or false", show=lambda on: str(on).lower())
SHARE = Kind(_share, "off, all or a share from 0.000001 to below 1", show=_shown_share)
TEXT: Kind[str] = Kind(str.strip, "a text")
PATH = Kind(_path, "a path; ~ must be a home directory that exists")
OPTIONAL_PATH: Kind[Path | None] = Kind(_path, PATH.allowed)
WORDS = Kind(_words, "words with commas between them")
