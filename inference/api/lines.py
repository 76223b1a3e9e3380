"""The lines of a batch's file: each held against the same allow-list as a request of its own.

A line that does not pass is a value too, with its code and the field it is about: it stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from inference.api import document, schemas
from inference.api.errors import BadRequestError
from inference.api.fields import Fields
from inference.policy.ask import Ask
from inference.policy.errors import PolicyRefusal
from inference.policy.rules import Rights, check_model
from inference.queue import rules, selectors
from inference.releases import selectors as releases

log = logging.getLogger(__name__)


def read(rights: Rights, source: str, endpoint: str) -> Iterator[rules.Line | rules.BadLine]:
    """Every line of a client's stored file."""
    serving = releases.serving()
    served = serving.served_model_name if serving else ""  # without one, the model is checked when there is
    for number, raw in selectors.file_lines(client=rights.client, ref=source):
        yield _line(number, raw, rights=rights, endpoint=endpoint, served=served)


def _line(number: int, raw: bytes | None, *, rights: Rights, endpoint: str, served: str) -> rules.Line | rules.BadLine:
    """One line, held against the same allow-list as a request of its own."""
    custom_id = ""
    if raw is None:
        return rules.BadLine(number, "line_too_long", f"a line has at most {rules.LONGEST_LINE} bytes")
    try:
        fields = Fields(document.parse(raw), "")
        custom_id = fields.text("custom_id", required=True)
        one_of(fields, "method", ("POST",))
        one_of(fields, "url", (endpoint,))
        ask = _ask(fields)
        fields.end()
        if served:
            check_model(ask.model, served, rights)
    except (BadRequestError, PolicyRefusal) as refusal:
        return rules.BadLine(number, refusal.code, refusal.message, refusal.param, custom_id)
    except Exception as error:
        # A line that trips over a bug of ours must not stop the others.
        log.error("api_bug", exc_info=error)
        return rules.BadLine(number, "internal_error", "this line met a fault of the appliance", custom_id=custom_id)
    return rules.Line(number, custom_id, ask)


def _ask(fields: Fields) -> Ask:
    request = schemas.chat(fields.take("body"), within="body.")
    if request.stream:
        raise BadRequestError("out_of_range", "a line of a batch is not streamed", param="body.stream")
    return request.ask


def one_of(fields: Fields, name: str, choices: tuple[str, ...]) -> str:
    """A field that must be there and be one of these."""
    found = fields.choice(name, choices)
    if not found:
        raise BadRequestError("missing_field", f"{name} is required: {', '.join(choices)}", param=name)
    return found
