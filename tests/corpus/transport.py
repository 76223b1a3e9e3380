"""Group F: bad messages, byte for byte as they go over the wire, and what each must get. Numbers are those of BAD_INPUTS.

A status with a code is our own answer in OpenAI's shape; one without is the HTTP server's, before any handler of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CHAT = "/v1/chat/completions"
KEY = b"@KEY@"
"""Stands for the client's key; who sends the bytes puts it in."""

HOST = "Host: localhost"
AUTH = "Authorization: Bearer @KEY@"
JSON = "Content-Type: application/json"
CLOSE = "Connection: close"


@dataclass(frozen=True)
class Wire:
    """One message, and the status and code of the only answer it may get."""

    item: int
    name: str
    data: bytes
    status: int
    code: str = ""

    def __str__(self) -> str:
        return f"{self.item}-{self.name}"


WIRES: list[Wire] = []


def message(*lines: str, method: str = "POST", target: str = CHAT, body: bytes = b"", version: str = "1.1") -> bytes:
    """A message exactly as the lines say; nothing is added."""
    head = [f"{method} {target} HTTP/{version}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def framed(*lines: str, body: bytes = b"hello", version: str = "1.1") -> bytes:
    """A chat request whose framing is only what the lines say."""
    return message(HOST, AUTH, JSON, *lines, body=body, version=version)


def get(target: str, *lines: str, host: str = HOST, method: str = "GET") -> bytes:
    return message(host, AUTH, CLOSE, *lines, method=method, target=target)


def each(item: int, status: int, code: str = "", **messages: bytes) -> None:
    WIRES.extend(Wire(item, name, data, status, code) for name, data in messages.items())


def numbered(prefix: str, messages: Iterable[bytes]) -> dict[str, bytes]:
    return {f"{prefix}{number}": data for number, data in enumerate(messages)}


# --- 85: how long is the body? Two servers that disagree make one message into two.
each(
    85,
    400,
    two_lengths=framed("Content-Length: 5", "Content-Length: 6"),
    two_equal_lengths=framed("Content-Length: 5", "Content-Length: 5"),
    two_lengths_in_one=framed("Content-Length: 5, 6"),
    two_equal_lengths_in_one=framed("Content-Length: 5, 5"),
    plus=framed("Content-Length: +5"),
    underscore=framed("Content-Length: 1_0"),
    minus=framed("Content-Length: -1"),
    hexadecimal=framed("Content-Length: 0x5"),
    fraction=framed("Content-Length: 5.0"),
    empty=framed("Content-Length:"),
    superscript=framed("Content-Length: \xb2"),
    length_and_chunked=framed("Content-Length: 5", "Transfer-Encoding: chunked"),
    chunked_and_length=framed("Transfer-Encoding: chunked", "Content-Length: 5"),
    chunked_twice=framed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    chunked_twice_in_one=framed("Transfer-Encoding: chunked, chunked"),
    chunked_then_identity=framed("Transfer-Encoding: chunked, identity"),
    gzip_only=framed("Transfer-Encoding: gzip"),
    chunked_in_http_1_0=framed("Transfer-Encoding: chunked", version="1.0"),
)
# More digits than Python turns into a number: the server hangs up without a word.
each(
    85,
    0,
    five_thousand_digits=framed("Content-Length: " + "0" * 5000 + "5"),
    many_nines=framed("Content-Length: " + "9" * 5000),
)
each(
    85,
    501,
    unknown_coding=framed("Transfer-Encoding: x"),
    chunked_with_a_dot=framed("Transfer-Encoding: chunked."),
    chunked_with_a_tab_inside=framed("Transfer-Encoding: chun\tked"),
)

# --- 87: a second request inside the first; it needs no key, so it would be answered wherever it was taken for one
_INNER = message(HOST, method="GET", target="/v1/status")
each(
    87,
    400,
    "invalid_json",
    in_a_body=message(HOST, AUTH, JSON, CLOSE, f"Content-Length: {len(_INNER)}", body=_INNER),
    in_a_chunk=framed("Transfer-Encoding: chunked", CLOSE, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(_INNER), _INNER)),
)
each(
    87,
    401,
    "invalid_api_key",
    behind_a_refusal_that_read_no_body=message(HOST, JSON, f"Content-Length: {len(_INNER) + 5}", body=_INNER),
)
each(
    87,
    404,
    "not_found",
    behind_a_body_nobody_asked_for=message(
        HOST, CLOSE, f"Content-Length: {len(_INNER)}", method="GET", target="/x", body=_INNER
    ),
)
each(
    87,
    400,
    length_then_chunked=framed("Content-Length: 0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + _INNER),
    chunked_behind_a_space=framed("Transfer-Encoding : chunked", "Content-Length: 5"),
    chunk_size_with_a_sign=framed("Transfer-Encoding: chunked", body=b"+5\r\nhello\r\n0\r\n\r\n" + _INNER),
    chunk_size_in_0x=framed("Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n" + _INNER),
    chunk_size_underscored=framed("Transfer-Encoding: chunked", body=b"0_5\r\nhello\r\n0\r\n\r\n" + _INNER),
    chunk_longer_than_it_says=framed("Transfer-Encoding: chunked", body=b"2\r\nhello\r\n0\r\n\r\n" + _INNER),
    chunk_ended_by_a_bare_line_feed=framed("Transfer-Encoding: chunked", body=b"5\nhello\n0\n\n" + _INNER),
    line_feed_in_an_extension=framed("Transfer-Encoding: chunked", body=b"5;a\nb\r\nhello\r\n0\r\n\r\n" + _INNER),
)

# --- 88: header lines that two servers read differently
each(
    88,
    400,
    space_before_the_colon=get("/v1/models", "X-A : 1"),
    tab_before_the_colon=get("/v1/models", "X-A\t: 1"),
    folded=get("/v1/models", "X-A: 1", " 2"),
    folded_with_a_tab=get("/v1/models", "X-A: 1", "\t2"),
    first_line_folded=message(" X-A: 1", HOST, AUTH, method="GET", target="/v1/models"),
    no_colon=get("/v1/models", "X-A"),
    no_name=get("/v1/models", ": 1"),
    nul=get("/v1/models", "X-A: a\0b"),
    carriage_return=get("/v1/models", "X-A: a\rb"),
    bell=get("/v1/models", "X-A: a\x07b"),
    bare_line_feeds=b"GET /v1/models HTTP/1.1\nHost: localhost\n\n",
    line_feed_in_a_value=get("/v1/models", "X-A: a\nX-B: b"),
    name_with_a_quote=get("/v1/models", 'X"A: 1'),
    name_beyond_ascii=get("/v1/models", "X-\xe4: 1"),
    two_types=message(HOST, AUTH, JSON, JSON, "Content-Length: 2", body=b"{}"),
)
each(88, 401, "invalid_api_key", two_keys=get("/v1/models", AUTH))

# --- 90: whose name is asked for
each(
    90,
    400,
    two_hosts=get("/v1/status", HOST),
)
each(90, 431, ten_kilobytes=get("/v1/status", host="Host: " + "x" * 10_000))
each(
    90,
    400,
    "bad_host",
    missing=message(AUTH, CLOSE, method="GET", target="/v1/status"),
    path_and_query=get("/v1/status", host="Host: a/?x="),
    path_and_fragment=get("/v1/status", host="Host: evil/#"),
    foreign=get("/v1/status", host="Host: evil.example"),
    foreign_then_ours=get("/v1/status", host="Host: evil.example, localhost"),
    user_before_ours=get("/v1/status", host="Host: x@localhost"),
    ipv6=get("/v1/status", host="Host: [::1]"),
    ipv6_with_a_port=get("/v1/status", host="Host: [::1]:8801"),
    port_0=get("/v1/status", host="Host: localhost:0"),
    port_65536=get("/v1/status", host="Host: localhost:65536"),
    port_none=get("/v1/status", host="Host: localhost:"),
    port_in_hexadecimal=get("/v1/status", host="Host: localhost:0x50"),
    port_signed=get("/v1/status", host="Host: localhost:+80"),
    four_kilobytes=get("/v1/status", host="Host: " + "x" * 4000),
    upper_case=get("/v1/status", host="Host: LOCALHOST"),
    trailing_dot=get("/v1/status", host="Host: localhost."),
    empty=get("/v1/status", host="Host:"),
    beyond_ascii=get("/v1/status", host="Host: l\xf6calhost"),
)

# --- 91: other spellings of a path. None of them is one of ours.
_PATHS = [
    "//admin", "//v1/models", "/v1//models", "/v1/models/", "/v1/./models", "/v1/../v1/models", "/v1/x/../models",
    "/v1/%2e%2e/admin", "/v1/%2e/models", "/v1/%6dodels", "/v1%2fmodels", "/v1%2Fmodels", "/v1%5cmodels",
    "/v1\\models", "/v1/models;x", "/v1/models;x=1", "/v1/models%3bx", "/v1/models%00", "/v1/models%20",
    "/v1/models%0d%0aX:1", "/v1/%c0%ae%c0%ae/models", "/v1/%e0%80%af", "/v1/%ff%fe", "/V1/models", "/v1/Models",
    "/v1/" + "%25" * 9 + "2e%2e/models", "/v1/models.json", "/v1/models%23", "/v1/models/x/y", "/%2e%2e/%2e%2e/etc/passwd",
]  # fmt: skip
each(91, 404, "not_found", **numbered("path", (get(path) for path in _PATHS)))
each(
    91,
    400,
    "bad_host",
    absolute_form_of_another_host=get("http://evil.example/v1/models", host="Host: evil.example"),
)
each(
    91,
    404,
    "not_found",
    absolute_form=get("http://localhost/v1/models"),
    absolute_form_under_our_host=get("http://evil.example/v1/models"),
    absolute_form_without_a_path=get("http://localhost"),
    authority_form=get("localhost:80", method="CONNECT"),
    asterisk=get("*", method="OPTIONS"),
)
each(
    91,
    400,
    space_in_the_target=get("/v1/mod els"),
    tab_in_the_target=get("/v1/mod\tels"),
    nul_in_the_target=get("/v1/models\0"),
    beyond_ascii_in_the_target=get("/v1/mod\xe4ls"),
    no_slash=get("v1/models"),
    no_version=b"GET /v1/models\r\nHost: localhost\r\n\r\n",
    version_2=message(HOST, AUTH, method="GET", target="/v1/models", version="2.0"),
    version_0_9=message(HOST, AUTH, method="GET", target="/v1/models", version="0.9"),
    method_in_lower_case=get("/v1/models", method="get"),
)

# --- 93: more than a head may hold
each(93, 431, many_headers=get("/v1/models", *(f"X-{number}: 1" for number in range(101))))
each(93, 431, long_header=get("/v1/models", "X-A: " + "a" * 9_000))
each(93, 431, endless_header=get("/v1/models", "X-A: " + "a" * 200_000))
each(93, 414, long_target=get("/v1/models?" + "a" * 5_000))
each(93, 414, endless_target=get("/v1/models?" + "a" * 200_000))

# --- 94: more than a body may hold
_TOO_MUCH = 1_048_577
_CHUNK = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
each(
    94,
    413,
    "body_too_large",
    by_its_length=framed(f"Content-Length: {_TOO_MUCH}", body=b" " * _TOO_MUCH),
    by_its_word=framed("Content-Length: 99999999999999999999", body=b"{}"),
    in_chunks=framed("Transfer-Encoding: chunked", body=_CHUNK * 40),
)
each(
    94,
    400,
    "invalid_json",
    chunked_and_empty=framed("Transfer-Encoding: chunked", CLOSE, body=b"0\r\n\r\n"),
    empty=framed("Content-Length: 0", CLOSE, body=b""),
    no_length=framed(CLOSE, body=b""),
)

# --- 96: a body that does not call itself JSON
_PARTS = b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(18_000)) + b"--x--"


def _typed(kind: str, body: bytes = b"{}") -> bytes:
    lines = (kind, f"Content-Length: {len(body)}", CLOSE) if kind else (f"Content-Length: {len(body)}", CLOSE)
    return message(HOST, AUTH, *lines, body=body)


each(
    96,
    415,
    "unsupported_media_type",
    missing=_typed(""),
    text=_typed("Content-Type: text/plain"),
    form=_typed("Content-Type: application/x-www-form-urlencoded", b"a=1"),
    many_parts=_typed("Content-Type: multipart/form-data; boundary=x", _PARTS),
    dash_tail=_typed("Content-Type: multipart/form-data; boundary=" + "-" * 70, b"--" + b"-" * 70 + b"--" * 1000),
    no_boundary=_typed("Content-Type: multipart/form-data"),
    utf_16=_typed("Content-Type: application/json; charset=utf-16"),
    two_in_one=_typed("Content-Type: application/json, text/plain"),
    jsonx=_typed("Content-Type: application/jsonx"),
    compressed=message(HOST, AUTH, JSON, CLOSE, "Content-Encoding: gzip", "Content-Length: 2", body=b"{}"),
)

# --- 99: HTTP/2 is not spoken; what it is fed with ends at its first line
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_RESETS = b"".join(
    b"\0\0\1\1\4" + stream.to_bytes(4) + b"\x82" + b"\0\0\4\3\0" + stream.to_bytes(4) + b"\0\0\0\x08"
    for stream in range(1, 20_001, 2)
)
_CONTINUATIONS = b"\0\0\1\1\0\0\0\0\1\x82" + (b"\0\x40\0\x09\0\0\0\0\1" + b"\0" * 0x4000) * 64
_TABLE = b"\0\0\6\4\0\0\0\0\0\0\1\xff\xff\xff\xff"
each(
    99,
    400,
    preface=_PREFACE,
    rapid_reset=_PREFACE + _SETTINGS + _RESETS,
    continuation_flood=_PREFACE + _SETTINGS + _CONTINUATIONS,
    huge_table=_PREFACE + _TABLE,
)

# --- 100, 102: an upgrade, a caller that waits to be told, a browser of another site
_SOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
each(
    100,
    403,
    websocket=message(HOST, AUTH, *_SOCKET, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", method="GET", target=CHAT),
)
each(
    100,
    426,
    websocket_without_a_version=message(HOST, "Upgrade: websocket", "Connection: Upgrade", method="GET", target=CHAT),
)
each(
    100,
    401,
    "invalid_api_key",
    waits_to_be_told_and_never_is=message(HOST, JSON, "Expect: 100-continue", "Content-Length: 2"),
)
each(
    100,
    400,
    "missing_field",
    tells_before_it_is_asked=message(HOST, AUTH, JSON, CLOSE, "Expect: 100-continue", "Content-Length: 2", body=b"{}"),
)
each(
    102,
    405,
    "method_not_allowed",
    preflight_from_null=get(CHAT, "Origin: null", "Access-Control-Request-Method: POST", method="OPTIONS"),
    trace=get("/v1/status", method="TRACE"),
    preflight_from_afar=get(
        CHAT, "Origin: https://evil.example", "Access-Control-Request-Method: POST", method="OPTIONS"
    ),
)
