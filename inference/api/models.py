"""What serves: the model list in OpenAI's shape, and the box's own short word on how it is."""

from __future__ import annotations

from typing import Any

from inference.admission.errors import AdmissionError
from inference.admission.rules import Capacity
from inference.api.desk import Desk
from inference.api.exchange import Exchange
from inference.policy.rules import Rights, check_model
from inference.releases.selectors import Serving


async def list_(exchange: Exchange, desk: Desk, rights: Rights, _argument: str) -> None:
    """`GET /v1/models`: the one approved model, if it serves and this key may use it."""
    serving = desk.standing.current().serving
    granted = serving is not None and (rights.models is None or serving.served_model_name in rights.models)
    data = [_model(serving)] if serving is not None and granted else []
    await exchange.reply(200, {"object": "list", "data": data})


async def retrieve(exchange: Exchange, desk: Desk, rights: Rights, argument: str) -> None:
    """`GET /v1/models/{model}`."""
    serving = desk.standing.serving()
    check_model(argument, serving.served_model_name, rights)
    await exchange.reply(200, _model(serving))


async def status(exchange: Exchange, desk: Desk) -> None:
    """`GET /v1/status`: for monitors, without a key, and with nothing of any request in it."""
    reasons: list[str] = []
    serving: Serving | None = None
    try:
        serving = desk.standing.serving()
    except AdmissionError as error:
        reasons.append(error.code)
    if serving is not None and serving.degraded_since is not None:
        reasons.append("engine_degraded")
    if not desk.channel.available:
        reasons.append("audit_unavailable")
    down = bool(reasons)
    # Fewer cards, or hot ones: it answers, only less; a monitor that restarts a box at 503 must not.
    capacity = desk.standing.capacity()
    if capacity is not Capacity.FULL:
        reasons.append("capacity_reduced" if capacity is Capacity.REDUCED else "gpu_held")
    down = down or capacity is Capacity.NONE
    body: dict[str, Any] = {"status": "degraded" if reasons else "ok", "reasons": reasons, "model": None}
    body["capacity"] = capacity
    if serving is not None:
        body["model"] = {"id": serving.served_model_name, "release_digest": serving.release_digest}
    # Of this process; a box with several API workers answers with one of them.
    body["lanes"] = desk.house.lanes.gauges().as_json()
    await exchange.reply(503 if down else 200, body)


def _model(serving: Serving) -> dict[str, Any]:
    return {
        "id": serving.served_model_name,
        "object": "model",
        "created": int(serving.since.timestamp()),
        "owned_by": "isoward",
        "capabilities": sorted(serving.capabilities),
        "release_digest": serving.release_digest,
        "change_id": serving.change_id,
    }
