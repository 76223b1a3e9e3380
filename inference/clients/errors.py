"""Refusals about clients and their keys, met by staff in the console and by commands."""

from __future__ import annotations


class ClientError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ClientNotFoundError(ClientError):
    """No client, or no key, by that name."""


class ClientRefusedError(ClientError):
    """The name is taken, a grant is unknown, or the client is suspended."""
