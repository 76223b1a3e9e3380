"""One table of the site file: typed reads whose refusals name the key and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class SiteError(Exception):
    """The site file or a secret is not as it must be. The message names the key and the fix."""


class Table:
    """One table of the file: typed reads that name the key, and a check that nothing was left unread."""

    def __init__(self, path: Path, document: dict[str, Any], name: str) -> None:
        value = document.pop(name, None)
        if not isinstance(value, dict):
            raise SiteError(f"{path}: table [{name}] is missing")
        self._path, self._name, self._values = path, name, dict(value)

    def _take(self, key: str, kind: type, fix: str) -> Any:
        value = self._values.pop(key, None)
        # bool is an int to Python, and a port of `true` is a mistake to us.
        if type(value) is not kind:
            found = "is missing" if value is None else f"is {value!r}"
            raise SiteError(f"{self._path}: {self._name}.{key} {found}; write {fix}")
        return value

    def text(self, key: str) -> str:
        value: str = self._take(key, str, "a text of 1 to 200 characters")
        if not 0 < len(value) <= 200 or not value.isprintable():
            raise SiteError(f"{self._path}: {self._name}.{key} must be 1 to 200 printable characters")
        return value

    def identifier(self, key: str) -> str:
        """A name that is safe inside SQL and a libpq string without quoting."""
        value = self.text(key)
        if not (value.isascii() and value.isidentifier() and value == value.lower() and len(value) <= 63):
            raise SiteError(f"{self._path}: {self._name}.{key} must be a lower-case identifier of at most 63 letters")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise SiteError(f"{self._path}: {self._name}.{key} is {value!r}; write one of: {', '.join(choices)}")
        return value

    def number(self, key: str, low: int, high: int) -> int:
        value: int = self._take(key, int, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise SiteError(f"{self._path}: {self._name}.{key} is {value}; write a whole number from {low} to {high}")
        return value

    def flag(self, key: str) -> bool:
        value: bool = self._take(key, bool, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values: list[Any] = self._take(key, list, "a list of texts")
        if not values or not all(isinstance(value, str) and value for value in values):
            raise SiteError(f"{self._path}: {self._name}.{key} must be a list of at least one text")
        return tuple(values)

    def lists(self, key: str) -> dict[str, tuple[str, ...]]:
        """A table of lists of texts, one per name."""
        values: dict[str, Any] = self._take(key, dict, "a table with one list of texts per name")
        for name, texts in values.items():
            if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
                raise self.refusal(f"{key}.{name}", "must be a list of at least one text")
        return {name: tuple(texts) for name, texts in values.items()}

    def refusal(self, key: str, says: str) -> SiteError:
        """The error for one key of this table."""
        return SiteError(f"{self._path}: {self._name}.{key} {says}")

    def path(self, key: str) -> Path:
        return self._absolute(key, self.text(key))

    def paths(self, key: str) -> tuple[Path, ...]:
        return tuple(self._absolute(key, value) for value in self.texts(key))

    def _absolute(self, key: str, value: str) -> Path:
        # A quote or backslash would change the meaning of the libpq string it ends up in.
        if not value.startswith("/") or ".." in Path(value).parts or set(value) & set("'\\\0\n"):
            raise SiteError(f"{self._path}: {self._name}.{key} must be an absolute path without '..' or quotes")
        return Path(value)

    def close(self) -> None:
        if self._values:
            raise SiteError(f"{self._path}: {self._name}.{min(self._values)} is not a known key; remove it")
