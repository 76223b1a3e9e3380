"""A release that serves, a client, the engine's stand-in, and a worker's bench in this process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.conf import settings

from inference.clients import selectors as clients
from inference.policy.rules import Rights
from inference.queue.tasks import Bench
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    stand_in = EngineStandIn(settings.SITE.engine_socket("a")).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def rights(transactional_db: None) -> Rights:
    lans.serve_a_release()
    key = lans.new_key()
    found = clients.snapshot().of_key_id(key[:12], now=datetime.now(UTC))
    assert found is not None
    return found


@pytest.fixture
def bench(rights: Rights) -> Iterator[Bench]:
    made = Bench.here()
    yield made
    made.close()
