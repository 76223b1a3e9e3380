"""Who is told when work has ended: registered by staff per client, told from rows, again and again until taken.

What is to be told is found afterwards, by looking for what has ended: nothing on the way of a job waits for it or can
be lost with a process. Each telling is a row; its end, taken or given up, is a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone

from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.services import unaudited
from appliance.keyring import services as keyring
from inference.queue import rules, webhook
from inference.queue.errors import WebhookError
from inference.queue.models import Telling, Webhook
from provisioning.site_config import Destination

# What ended since somebody listens for it and has not been told yet. Lines of a batch are told with their batch.
_FIND = """
    INSERT INTO queue_telling (webhook_id, ref, subject, event, tries, not_before, created)
    SELECT w.id, 'evt_' || encode(sha256((w.id || e.event || e.subject)::bytea), 'hex'), e.subject, e.event, 0,
        %(now)s, e.finished
    FROM queue_webhook w JOIN (
        SELECT client, ref AS subject, 'batch.' || state AS event, finished FROM queue_batch WHERE finished > %(since)s
        UNION ALL
        SELECT client, ref, 'job.' || state, finished FROM queue_job WHERE finished > %(since)s AND batch_id IS NULL
    ) e ON e.client = w.client AND e.finished > w.created
    ON CONFLICT (ref) DO NOTHING
"""


@transaction.atomic
def register_webhook(*, actor: str, client: str, url: str, allowed: Iterable[Destination]) -> str:
    """Tell this client there from now on. The secret its app checks signatures with: shown once, kept sealed."""
    webhook.target(url, allowed)
    secret = os.urandom(webhook.SECRET_BYTES)
    Webhook.objects.filter(client=client).delete()
    row = Webhook.objects.create(client=client, url=url, secret=keyring.seal(secret, aad=rules.secret_name(client)))
    audit.record(
        actor=actor, action=Action.WEBHOOK_REGISTERED, target=f"client:{client}", client=client, detail={"url": row.url}
    )
    return webhook.shown(secret)


@transaction.atomic
def remove_webhook(*, actor: str, client: str) -> None:
    """Tell this client nothing any more."""
    if not Webhook.objects.filter(client=client).delete()[0]:
        raise WebhookError("webhook_not_found", "that client has no webhook")
    audit.record(actor=actor, action=Action.WEBHOOK_REMOVED, target=f"client:{client}", client=client)


@unaudited("what is told is recorded when it was taken or given up")
def find_news() -> None:
    """Make a row for everything that ended and somebody wants to know."""
    if not Webhook.objects.exists():
        return
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_FIND, {"now": now, "since": now - rules.NEWS_WITHIN})


@unaudited("what is told is recorded when it was taken or given up")
def take_news() -> list[webhook.Message]:
    """The tellings whose time has come. Each is put off before it is tried, so a crash costs a wait and no storm."""
    now = timezone.now()
    with transaction.atomic():
        due = Telling.objects.select_for_update(skip_locked=True, of=("self",)).select_related("webhook")
        rows = list(due.filter(ended=None, not_before__lte=now).order_by("not_before")[: rules.MOST_TOLD])
        for row in rows:
            row.tries += 1
            row.not_before = now + rules.tell_again(row.tries)
        Telling.objects.bulk_update(rows, ["tries", "not_before"])
    return [
        webhook.Message(
            ref=row.ref,
            subject=row.subject,
            event=row.event,
            at=row.created,
            url=row.webhook.url,
            secret=keyring.open_(bytes(row.webhook.secret), aad=rules.secret_name(row.webhook.client)),
        )
        for row in rows
    ]


@transaction.atomic
def settle_news(*, actor: str, ref: str, taken: bool) -> None:
    """It was taken, or this was the last try: on record. Otherwise it is tried again."""
    open_ = Telling.objects.select_for_update(of=("self",)).select_related("webhook").filter(ref=ref, ended=None)
    row = open_.first()
    if row is None or (not taken and row.tries < rules.MOST_TRIES):
        return
    row.ended = timezone.now()
    row.save(update_fields=["ended"])
    audit.record(
        actor=actor,
        action=Action.WEBHOOK_TOLD,
        target=row.subject,
        outcome="ok" if taken else "given_up",
        client=row.webhook.client,
        detail={"event": row.event, "tries": row.tries},
    )


@unaudited("the records stay; the rows were only what was still to do")
def forget_news() -> None:
    Telling.objects.filter(
        ended__lt=timezone.now() - timedelta(days=1), created__lt=timezone.now() - rules.NEWS_WITHIN
    ).delete()
