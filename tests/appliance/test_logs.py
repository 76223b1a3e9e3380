"""A log line holds no text of a caller's, whichever library wrote it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from appliance.logs import JsonFormatter

CANARY = "PATIENT Jane Doe"


async def _lost() -> None:
    raise ValueError(CANARY)


def test_an_exception_that_nobody_looked_at_is_its_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    async def forget() -> None:
        task = asyncio.create_task(_lost())
        await asyncio.wait((task,))
        del task
        asyncio.get_running_loop().call_exception_handler({"message": CANARY, "exception": ValueError(CANARY)})

    asyncio.run(forget())
    records = [record for record in caplog.records if record.name == "asyncio"]
    assert any(CANARY in str(record.msg) for record in records)
    lines = [JsonFormatter().format(record) for record in records]
    assert not any(CANARY in line for line in lines)
    assert {(json.loads(line)["event"], json.loads(line).get("error")) for line in lines} == {
        ("event_loop", "ValueError")
    }


def test_another_loggers_event_is_its_template() -> None:
    record = logging.getLogger("inference.serve").makeRecord("x", logging.INFO, "f", 1, "release %s", ("a",), None)
    assert json.loads(JsonFormatter().format(record))["event"] == "release %s"
