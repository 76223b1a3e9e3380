"""The fields of one JSON object, each taken once by name, type and bound. What was not taken is a 400 that names it.

No value of the caller's is ever quoted in a refusal, only the name of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from inference.api.errors import BadRequestError

_TOKEN = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELD_NAME = re.compile(r"[\x21-\x7e]{1,64}")


class Fields:
    """The fields of one object. Each is taken once, by name and type; `end` refuses what was not taken."""

    def __init__(self, value: Any, within: str) -> None:
        if not isinstance(value, dict):
            where = within.rstrip(".") or None
            raise BadRequestError("wrong_type" if where else "invalid_json", "an object is required here", param=where)
        self._left = dict(value)
        self._within = within

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def required(self, name: str) -> Any:
        value = self.take(name)
        if value is None:
            raise BadRequestError("missing_field", f"{self.path(name)} is required", param=self.path(name))
        return value

    def object(self, name: str) -> Fields:
        """An object below this one; empty when it is not there."""
        value = self.take(name)
        return Fields({} if value is None else value, f"{self.path(name)}.")

    def items(self, name: str, most: int) -> list[Any]:
        """A list of at most so many; empty when it is not there."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        if len(value) > most:
            raise self.range(name, f"a list of at most {most}")
        return value

    def path(self, name: str) -> str:
        return f"{self._within}{name}"

    def end(self) -> None:
        for name in self._left:
            shown = name if _FIELD_NAME.fullmatch(name) else "?"
            raise BadRequestError(
                "unknown_field", f"unknown field: {self._within}{shown}", param=f"{self._within}{shown}"
            )

    def text(self, name: str, *, required: bool = False) -> str:
        return self._checked(name, "", required=required, fits=lambda v: 0 < len(v) <= 256 and v.isprintable())

    def prose(self, name: str, most: int, *, required: bool = False) -> str:
        """Free text of at most so many characters, line breaks included."""
        return self._checked(name, "", required=required, fits=lambda v: len(v) <= most)

    def token(self, name: str, *, required: bool = False) -> str:
        return self._checked(name, "", required=required, fits=lambda v: _TOKEN.fullmatch(v) is not None)

    def identifier(self, name: str) -> str:
        """A name as functions have; required."""
        return self._checked(name, "", required=True, fits=lambda v: _IDENTIFIER.fullmatch(v) is not None)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        return self._checked(name, "", fits=lambda v: v in choices)

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        # bool is an int to Python, and `"max_tokens": true` is a mistake to us.
        if type(value) is not int:
            raise self.wrong(name, "a whole number")
        if not low <= value <= high:
            raise self.range(name, f"from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, *, above_low: bool = False) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not low <= value <= high or (above_low and value == low):
            raise self.range(name, f"a number from {low} to {high}")
        return float(value)

    def _checked(self, name: str, default: str, *, fits: Callable[[str], bool], required: bool = False) -> str:
        value = self.required(name) if required else self.take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        if not fits(value):
            raise self.range(name, "a short plain text of the documented form")
        return value

    def wrong(self, name: str, kind: str) -> BadRequestError:
        return BadRequestError("wrong_type", f"{self.path(name)} must be {kind}", param=self.path(name))

    def range(self, name: str, kind: str) -> BadRequestError:
        return BadRequestError("out_of_range", f"{self.path(name)} must be {kind}", param=self.path(name))
