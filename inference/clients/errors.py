"""Refusals about clients, their keys and their issuers, met by staff in the console and by commands."""

from __future__ import annotations


class ClientError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ClientNotFoundError(ClientError):
    """No client, key or issuer by that name."""


class ClientRefusedError(ClientError):
    """The name is taken, a grant is unknown, a key is weak, or the client is suspended."""


class BadAssertionError(ClientError):
    """A statement of who asks that proves nothing. The message says which check failed, never what it held."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_end_user_assertion", message)
