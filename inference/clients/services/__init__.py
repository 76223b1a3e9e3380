"""Every write of this app, one file per thing that is written. Each tells the doors by NOTIFY when it commits."""

from inference.clients.services.attempts import watch_attempts
from inference.clients.services.grants import create_client, set_grants, set_state
from inference.clients.services.issuers import add_issuer_key, register_issuer, retire_issuer_key, set_issuer_state
from inference.clients.services.kept import keep_key, kept_key
from inference.clients.services.keys import IssuedKey, issue_key, revoke_key, rotate_key

__all__ = [
    "IssuedKey",
    "add_issuer_key",
    "create_client",
    "issue_key",
    "keep_key",
    "kept_key",
    "register_issuer",
    "retire_issuer_key",
    "revoke_key",
    "rotate_key",
    "set_grants",
    "set_issuer_state",
    "set_state",
    "watch_attempts",
]
