"""Refusals of the keyring."""

from __future__ import annotations


class KeyringError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""


class SealBrokenError(KeyringError):
    """The sealed bytes were altered, belong to another row, or their key is gone."""
