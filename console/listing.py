"""One way to narrow, order and page a list on the server. Decides what an address may ask; the rows are each app's.

- A filter that cannot be read shows nothing and says so; it never shows everything.
- An order or a page that does not exist is not an error of the reader's: the first order, the first page.
- What an address does not name narrows nothing, and what it names besides is ignored.
- Each selector adds its own last key to the order, so that no row is on two pages or on none.
- At most 10 000 rows are counted and reached; beyond them the reader is asked to narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest

PER_PAGE = 50
MOST = 10_000
_LAST_PAGE = MOST // PER_PAGE

Row = TypeVar("Row")
Rows = tuple[tuple[Row, ...], int]
"""Some rows of a list, and how many there are; more than MOST are counted as MOST + 1."""


@dataclass(frozen=True)
class Column:
    """One column. Without a key the list is not ordered by it; `falls` when its first press shows the largest first."""

    label: str
    key: str = ""
    number: bool = False
    falls: bool = False
    unseen: bool = False
    """For a reader of the screen only, as over a column of buttons."""


@dataclass(frozen=True)
class Head:
    """A column's heading as printed: where a press leads, and how the list is ordered by it now."""

    column: Column
    href: str
    direction: str


@dataclass(frozen=True)
class Order:
    """One choice of the list of orders, for screens that show no headings."""

    value: str
    label: str
    chosen: bool


@dataclass(frozen=True)
class Listing:
    """What an address asked of a list, and what the page prints around the rows."""

    path: str
    form: forms.Form
    columns: Sequence[Column]
    first: str
    order: str
    page: int
    total: int = 0
    shown: int = 0

    def fetch(self, selector: Callable[..., Rows[Row]], **fixed: Any) -> tuple[tuple[Row, ...], Listing]:
        """The rows asked for; none when the filter cannot be read."""
        if not self.form.is_valid():
            return (), self
        rows, total = selector(
            **fixed, **self.form.cleaned_data, order=self.order, offset=(self.page - 1) * PER_PAGE, limit=PER_PAGE,
            most=MOST,
        )  # fmt: skip
        return rows, replace(self, total=total, shown=len(rows))

    @property
    def unreadable(self) -> bool:
        """Whether the filter could not be read."""
        return not self.form.is_valid()

    @property
    def narrowed(self) -> bool:
        """Whether anything but the order was asked."""
        return self.unreadable or bool(self._kept)

    @property
    def says(self) -> str:
        """Which rows of how many."""
        if not self.shown:
            return ""
        start = (self.page - 1) * PER_PAGE + 1
        many = f"more than {MOST}" if self.total > MOST else str(self.total)
        return f"{start} to {start + self.shown - 1} of {many}"

    @property
    def past_the_end(self) -> bool:
        """A page that had rows when the link to it was made."""
        return self.total > 0 and not self.shown

    @property
    def heads(self) -> tuple[Head, ...]:
        """The headings, in order."""
        return tuple(self._head(column) for column in self.columns)

    @property
    def orders(self) -> tuple[Order, ...]:
        """Every order there is."""
        return tuple(
            Order(value, f"{column.label}, {'falling' if value.startswith('-') else 'rising'}", value == self.order)
            for column in self.columns
            if column.key
            for value in (column.key, f"-{column.key}")
        )

    @property
    def previous(self) -> str:
        """The address of the page before; empty on the first."""
        return self._address(page=self.page - 1) if self.page > 1 else ""

    @property
    def next(self) -> str:
        """The address of the page after; empty on the last, and where the reader should narrow instead."""
        more = self.page * PER_PAGE < self.total and self.page < _LAST_PAGE
        return self._address(page=self.page + 1) if more and self.shown else ""

    def _head(self, column: Column) -> Head:
        if not column.key:
            return Head(column, "", "")
        now = {column.key: "ascending", f"-{column.key}": "descending"}.get(self.order, "")
        firstly = f"-{column.key}" if column.falls else column.key
        flipped = column.key if self.order == f"-{column.key}" else f"-{column.key}"
        return Head(column, self._address(order=flipped if now else firstly), now)

    @property
    def _kept(self) -> Mapping[str, str]:
        given = self.form.data if self.form.is_bound else {}
        named = {name: str(given.get(name, "")) for name in self.form.fields}
        return {name: value for name, value in named.items() if value}

    def _address(self, *, order: str | None = None, page: int = 1) -> str:
        order = self.order if order is None else order
        asked = {
            **self._kept,
            **({"order": order} if order != self.first else {}),
            **({"page": str(page)} if page > 1 else {}),
        }
        return f"{self.path}?{urlencode(asked)}" if asked else self.path


def read(request: HttpRequest, form: type[forms.Form], columns: Sequence[Column], *, first: str) -> Listing:
    """What this address asks: the filter as the form reads it, the order and the page where they exist."""
    known = {value for column in columns if column.key for value in (column.key, f"-{column.key}")}
    order = request.GET.get("order", "")
    return Listing(
        path=request.path,
        form=form(request.GET),
        columns=columns,
        first=first,
        order=order if order in known else first,
        page=_page(request.GET.get("page", "")),
    )


def _page(text: str) -> int:
    whole = text.isascii() and text.isdigit() and len(text) <= len(str(_LAST_PAGE))
    return min(max(int(text), 1), _LAST_PAGE) if whole else 1
