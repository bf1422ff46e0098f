"""Reading the fields of a mapping of YAML, or saying which of them is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from molecule_grpc.templates.reading.files import TemplateInvalid


class Fields:
    """The fields of one mapping. A field that is absent or null has its default.

    Args:
        where: names the mapping in errors.

    Raises:
        TemplateInvalid: it is no mapping; so does each method for a value of another kind.
    """

    def __init__(self, given: Any, where: str) -> None:
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise TemplateInvalid(f"{where} must be a mapping")
        self.given: Mapping[str, Any] = given
        self.where = where
        # The file that the mapping stands in; empty for what was sent inline.
        self.source: str = getattr(given, "source", "")

    def has(self, name: str) -> bool:
        """Whether the field says something."""
        return self.given.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """A text; numbers and true or false count as one."""
        value = self.given.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float):
            return str(value)
        raise self._wrong(name, "a text")

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number within bounds."""
        value = self.given.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str) -> float:
        """A finite number; 0 where there is none."""
        value = self.given.get(name)
        if value is None:
            return 0.0
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._wrong(name, "a number")
        return float(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.given.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self.given.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self.items(name)
        if not all(isinstance(each, str) for each in values):
            raise self._wrong(name, "a list of texts")
        return values

    def below(self, name: str) -> Fields:
        """The fields of a mapping in this one."""
        return Fields(self.given.get(name), f"{self.where}: {name}")

    def _wrong(self, name: str, wanted: str) -> TemplateInvalid:
        return TemplateInvalid(f"{self.where}: {name} must be {wanted}")
