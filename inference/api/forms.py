"""A multipart form with one file in it, read as it comes: into memory, never onto a disk.

Decides what an acceptable form is; what its fields mean is the endpoint's. The file is one bytearray that its owner
wipes. `a[b]` is a field inside an object, as OpenAI's clients spell one in a form. What the HTTP server held of the
body while it arrived is not ours to wipe; it is freed unwritten.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inference.api.errors import BadRequestError
from inference.api.exchange import Exchange
from inference.api.fields import Fields

_MOST_FIELDS = 16
_LONGEST_FIELD = 1_024
_MARGIN = 32_768
_SLOWEST_S = 60.0
_NAME = re.compile(r"([a-z_]{1,32})(?:\[([a-z_]{1,32})\])?")

logging.getLogger("python_multipart").disabled = True  # it says which bytes it could not read


class Form:
    """One form: `await read`, then `fields` and `file`; and `wipe`, however it ended."""

    def __init__(self, file_field: str) -> None:
        self.file = bytearray()
        self.filename = ""
        self._file_field = file_field
        self._values: dict[str, Any] = {}
        self._count = 0
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._text = bytearray()
        self._seen_file = self._taken = self._ended = False

    async def read(self, exchange: Exchange, *, most: int) -> None:
        """The whole form; BadRequestError when it is not one, or one of its parts is more than it may be."""
        async for _ in self.arriving(exchange, most=most, within_s=_SLOWEST_S):
            pass
        if len(self.file) > most:
            raise BadRequestError("body_too_large", f"{self._file_field} has at most {most} bytes")

    async def arriving(self, exchange: Exchange, *, most: int, within_s: float) -> AsyncIterator[None]:
        """The same a part at a time: after each, whoever asks may take what has come of the file, and leave the rest."""
        parser = self._parser(exchange.header(b"content-type") or "")
        try:
            async for part in exchange.parts(most=most + _MARGIN, within_s=within_s):
                parser.write(part)
                self._taken = self._taken or bool(self.file)
                yield
        except FormParserError:
            raise _malformed() from None
        if not self._ended:
            raise _malformed()
        if not self._taken:
            raise BadRequestError("missing_field", f"{self._file_field} is required", param=self._file_field)

    @property
    def fields(self) -> Fields:
        return Fields(self._values, "")

    def wipe(self) -> None:
        """Overwrite the recording where it lies. Same length: somebody may still hold a view of it."""
        self.file[:] = bytes(len(self.file))
        self._text[:] = bytes(len(self._text))

    def _parser(self, content_type: str) -> MultipartParser:
        media, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if media != b"multipart/form-data" or not 0 < len(boundary) <= 70:
            raise BadRequestError("unsupported_media_type", "send Content-Type: multipart/form-data with a boundary")
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._count += 1
        if self._count > _MOST_FIELDS:
            raise BadRequestError("too_many_values", f"a form has at most {_MOST_FIELDS} fields")
        self._name = ""

    def _header_end(self) -> None:
        field, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if field.lower() == b"content-disposition":
            kind, options = parse_options_header(value)
            self._name = options.get(b"name", b"").decode("latin-1") if kind == b"form-data" else ""
            if self._name == self._file_field:
                self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _headers_finished(self) -> None:
        if self._name == self._file_field:
            if self._seen_file:
                raise BadRequestError("duplicate_key", "the form names a field twice", param=self._name)
            self._seen_file = True
        elif not _NAME.fullmatch(self._name):
            raise BadRequestError("unknown_field", "a field of the form has no name that is taken here", param="?")

    def _data(self, data: bytes, start: int, end: int) -> None:
        with memoryview(data) as view:
            (self.file if self._name == self._file_field else self._text).extend(view[start:end])
        if len(self._text) > _LONGEST_FIELD:
            raise BadRequestError("out_of_range", f"a field has at most {_LONGEST_FIELD} bytes", param=self._name)

    def _part_end(self) -> None:
        if self._name == self._file_field:
            return
        try:
            value = self._text.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequestError("wrong_type", "a field of the form is not UTF-8", param=self._name) from None
        self._text = bytearray()
        match = _NAME.fullmatch(self._name)
        outer, inner = match.groups() if match else (self._name, None)
        within = self._values if inner is None else self._values.setdefault(outer, {})
        if not isinstance(within, dict) or (inner or outer) in within:
            raise BadRequestError("duplicate_key", "the form names a field twice", param=self._name)
        within[inner or outer] = value

    def _end(self) -> None:
        self._ended = True


def _malformed() -> BadRequestError:
    return BadRequestError("wrong_type", "the body is not one whole multipart form")
