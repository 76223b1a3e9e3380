"""The record of a reading: what a client looked up about its own work. No record, no answer."""

from __future__ import annotations

from appliance.audit.actions import Action
from appliance.audit.entry import Entry, now_us
from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.policy.rules import Rights


async def record(
    exchange: Exchange, desk: Desk, rights: Rights, action: Action, *, target: str, task: str = "", purpose: str = ""
) -> None:
    """Durable on return, or AuditUnavailableError."""
    entry = Entry(
        at_us=now_us(),
        kind="read",
        action=action.value,
        actor=rights.client,
        outcome="ok",
        target=target,
        request_id=exchange.request_id,
        client=rights.client,
        key_id=rights.key_id,
        end_user=rights.end_user,
        purpose=purpose,
        task=task,
    )
    await desk.channel.put(entry)
