"""The log's tables. Application roles may insert and read records, nothing more (see `grant_roles`).

Records hold names as text and no foreign keys: the log outlives what it speaks of.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from appliance.audit.actions import Action
from appliance.audit.entry import KINDS


class Shard(models.Model):
    """One writer's own run of numbers. The ledger shard is shared by transactions and counts in `last_seq`."""

    writer = models.TextField()
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    last_seq = models.BigIntegerField(default=0)

    class Meta:
        db_table = "audit_shard"
        constraints = [
            models.UniqueConstraint(name="audit_shard_one_ledger", fields=["writer"], condition=Q(writer="ledger")),
        ]


class Record(models.Model):
    """One record, in the column order of `entry.Entry`; written by COPY only (see `chain`)."""

    pk = models.CompositePrimaryKey("shard", "seq")
    shard = models.BigIntegerField()
    seq = models.BigIntegerField()
    at_us = models.BigIntegerField()
    kind = models.TextField()
    action = models.TextField()
    actor = models.TextField()
    outcome = models.TextField()
    target = models.TextField()
    request_id = models.TextField()
    client = models.TextField()
    key_id = models.TextField()
    end_user = models.TextField()
    purpose = models.TextField()
    task = models.TextField()
    data_class = models.TextField()
    model = models.TextField()
    release = models.TextField()
    change_id = models.BigIntegerField()
    prompt_hmac = models.TextField()
    answer_hmac = models.TextField()
    patient_tag = models.TextField()
    hmac_key = models.TextField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    detail = models.TextField()
    leaf = models.BinaryField()

    class Meta:
        db_table = "audit_record"
        constraints = [
            models.CheckConstraint(name="audit_record_kind", condition=Q(kind__in=sorted(KINDS))),
            models.CheckConstraint(name="audit_record_positive", condition=Q(seq__gt=0, shard__gt=0)),
        ]
        indexes = [
            # Four for each record of a request (with the key); the rest hold only what people do, and what was refused.
            models.Index(name="audit_record_newest", fields=["-at_us", "-shard", "-seq"]),
            models.Index(name="audit_record_request", fields=["request_id"], condition=~Q(request_id="")),
            models.Index(name="audit_record_actor", fields=["actor", "-at_us"]),
            # also the watch over refused attempts, every few seconds
            models.Index(
                name="audit_record_act",
                fields=["action", "-at_us"],
                condition=~Q(action=Action.INFERENCE_ANSWERED.value),
            ),
            models.Index(
                name="audit_record_kind_at", fields=["kind", "-at_us"], condition=~Q(kind__in=["intent", "outcome"])
            ),
            # what others did about a client; its own is under its name as the actor
            models.Index(
                name="audit_record_about_client",
                fields=["client", "-at_us"],
                condition=~Q(client="") & ~Q(client=F("actor")),
            ),
        ]


class Segment(models.Model):
    """A run of one shard's records, and the index in the tree at which it begins."""

    tree_start = models.BigIntegerField(primary_key=True)
    shard = models.BigIntegerField()
    first_seq = models.BigIntegerField()
    last_seq = models.BigIntegerField()

    class Meta:
        db_table = "audit_segment"
        constraints = [models.UniqueConstraint(name="audit_segment_once", fields=["shard", "first_seq"])]


class Checkpoint(models.Model):
    """A signed tree head, with the edge that lets the sealer go on from it."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField()
    edge = models.BinaryField()
    note = models.TextField()
    at = models.DateTimeField()

    class Meta:
        db_table = "audit_checkpoint"
