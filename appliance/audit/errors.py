"""Refusals of the audit ledger. Each one means: do not act."""

from __future__ import annotations


class AuditError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""


class AuditUnavailableError(AuditError):
    """The record could not be made durable, so what it describes must not happen."""


class EntryError(AuditError):
    """A field of the entry cannot be stored as it stands (a NUL, too long, negative)."""


class NoteError(AuditError):
    """A checkpoint note is malformed or not signed by the key it names."""
