"""What stands behind a question mark is asked for by name or refused by name: nothing is ignored."""

from __future__ import annotations

import pytest

from inference.api.openapi.operations import OPERATIONS, Operation
from tests.simulators.lan import Lan

_IDS = {
    "model": "default",
    "task": "progress_note",
    "request_id": "req_x",
    "job": f"job_{'0' * 24}",
    "response": f"resp_{'0' * 24}",
    "file": f"file-{'0' * 24}",
    "batch": f"batch_{'0' * 24}",
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
def test_a_query_that_a_route_does_not_take_is_refused_before_anything_is_done(
    corpus_lan: Lan, operation: Operation
) -> None:
    needed = "".join(f"&{name}=unreviewed" for name in operation.needed)
    found = corpus_lan.ask(operation.method, f"{operation.path.format(**_IDS)}?surprise=1{needed}")
    assert found.status == 400
    if operation.method != "HEAD":
        assert (found.code, found.json["error"]["param"]) == ("unknown_field", "surprise")
