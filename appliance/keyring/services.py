"""Sealing and opening bytes at rest: AES-256-GCM under a data key, the data key wrapped by the box's key.

The associated data names the row and the column a ciphertext belongs to, so that two rows cannot be swapped (threat
T27). Leaves to the caller what is sealed and for how long it is kept.
"""

from __future__ import annotations

import functools
import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from django.conf import settings
from django.db import IntegrityError, transaction

from appliance.audit.services import unaudited
from appliance.keyring.errors import SealBrokenError
from appliance.keyring.models import DataKey

_HEAD = struct.Struct(">BQ")
_FORM = 1
_NONCE_BYTES = 12


class Sealer:
    """The current key, read and unwrapped once: for the many rows of one transaction."""

    def __init__(self, key_id: int) -> None:
        self._head = _HEAD.pack(_FORM, key_id)
        self._cipher = AESGCM(_unwrapped(key_id))

    def seal(self, plaintext: bytes, *, aad: bytes) -> bytes:
        """Form, key id, nonce and ciphertext in one piece; `aad` must name the row and column."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, plaintext, self._head + aad)


@unaudited("the act that needs the secret leaves the record")
def sealer() -> Sealer:
    """Seals under the key of this moment. Not to be kept: a retired key must seal nothing new."""
    return Sealer(_current().pk)


@unaudited("the act that needs the secret leaves the record")
def seal(plaintext: bytes, *, aad: bytes) -> bytes:
    """One row's worth; see `Sealer.seal`."""
    return sealer().seal(plaintext, aad=aad)


@unaudited("the act that needs the secret leaves the record")
def open_(sealed: bytes, *, aad: bytes) -> bytes:
    """The plaintext, or SealBrokenError when the bytes, the row or the key are not the ones it was sealed with."""
    try:
        form, key_id = _HEAD.unpack_from(sealed)
        nonce = sealed[_HEAD.size : _HEAD.size + _NONCE_BYTES]
        if form != _FORM:
            raise SealBrokenError("the sealed bytes have an unknown form")
        return AESGCM(_unwrapped(key_id)).decrypt(
            nonce, sealed[_HEAD.size + _NONCE_BYTES :], sealed[: _HEAD.size] + aad
        )
    except (InvalidTag, InvalidUnwrap, DataKey.DoesNotExist, ValueError, struct.error) as error:
        raise SealBrokenError("the sealed bytes do not open") from error


def _current() -> DataKey:
    key = DataKey.objects.filter(retired_at=None).first()
    if key is not None:
        return key
    wrapped = aes_key_wrap(_kek(), AESGCM.generate_key(bit_length=256))
    try:
        with transaction.atomic():
            return DataKey.objects.create(wrapped=wrapped)
    except IntegrityError:  # another process made the first key at the same moment
        return DataKey.objects.get(retired_at=None)


@functools.lru_cache(maxsize=64)
def _unwrapped(key_id: int) -> bytes:
    return aes_key_unwrap(_kek(), bytes(DataKey.objects.get(pk=key_id).wrapped))


def _kek() -> bytes:
    return settings.SITE.secret("keyring-kek")
