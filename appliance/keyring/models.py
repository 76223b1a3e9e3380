"""Data keys, each wrapped by the key-encryption key that the database never sees."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class DataKey(models.Model):
    """One AES-256 key, wrapped (RFC 3394). Retired keys still open what they sealed, until they are shredded."""

    wrapped = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "keyring_data_key"
        constraints = [
            # Only one key seals at a time; serves `_current`.
            models.UniqueConstraint(
                models.ExpressionWrapper(Q(retired_at__isnull=True), output_field=models.BooleanField()),
                name="keyring_one_current_key",
                condition=Q(retired_at__isnull=True),
            ),
        ]
