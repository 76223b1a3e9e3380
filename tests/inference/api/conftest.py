"""The API's process for this folder, and a fresh LAN for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.waiting import until


@pytest.fixture(scope="session")
def api_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "api.log"


@pytest.fixture(scope="session")
def api_port(django_db_setup: None, redis_server: object, api_log: Path) -> Iterator[int]:
    with lans.api_process(api_log) as port:
        yield port


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    stand_in = EngineStandIn(settings.SITE.engine_socket("a")).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
def lan(transactional_db: None, api_port: int, api_log: Path, engine: EngineStandIn) -> lans.Lan:
    lans.serve_a_release()
    found = lans.Lan(api_port, api_log, engine, key=lans.new_key())
    until(lambda: found.ask("GET", "/v1/models/default").status == 200, 10, "the API knows the key and the release")
    return found
