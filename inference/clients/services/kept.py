"""A key's text, kept sealed for whoever was given it: in a session, say. Nobody above this layer opens what is sealed."""

from __future__ import annotations

import base64

from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from appliance.keyring.errors import SealBrokenError


@unaudited("the issue of the key is recorded; nothing is stored here")
def keep_key(plaintext: str, *, name: str) -> str:
    """The text, sealed under this name, as text."""
    return base64.b64encode(keyring.seal(plaintext.encode(), aad=_aad(name))).decode()


@unaudited("nothing is stored here")
def kept_key(sealed: str, *, name: str) -> str | None:
    """The same again; None when it was kept under another name, or under a key that is gone."""
    try:
        return keyring.open_(base64.b64decode(sealed), aad=_aad(name)).decode()
    except SealBrokenError:
        return None


def _aad(name: str) -> bytes:
    return f"clients.kept-key:{name}".encode()
