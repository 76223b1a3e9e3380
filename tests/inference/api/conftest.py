"""The API's process for this folder, one LAN for each file, and a new client on it for each test."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import openai
import pytest
from django.conf import settings
from django.core.management import call_command
from pytest_django.plugin import DjangoDbBlocker

from tests import private_site
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn
from tests.waiting import until

numbers = count(1)


@pytest.fixture(scope="session")
def api_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "api.log"


@pytest.fixture(scope="session")
def api_port(django_db_setup: None, redis_server: object, api_log: Path) -> Iterator[int]:
    with lans.api_process(api_log) as port:
        yield port


@pytest.fixture(scope="module")
def released(api_port: int, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A release serves for the tests of one file; emptying the database after each test would cost a second."""
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0, reset_sequences=False)
        lans.serve_a_release()
    yield
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0, reset_sequences=False)


@pytest.fixture
def db(released: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In this folder rows are committed: the process under test reads them over its own connections."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    stand_in = EngineStandIn(settings.SITE.engine_socket("a")).start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def corpus_lan(released: None, api_port: int, api_log: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[lans.Lan]:
    """One client and one engine for the many small cases of a corpus: none of them may change anything."""
    stand_in = EngineStandIn(settings.SITE.engine_socket("a")).start()
    with django_db_blocker.unblock():
        name = f"ward-{next(numbers)}"
        found = lans.Lan(api_port, api_log, stand_in, client=name, key=lans.new_key(name, lane="stat"))
    until(lambda: found.ask("GET", "/v1/models/default").status == 200, 10, "the API knows the key and the release")
    yield found
    stand_in.stop()


@pytest.fixture(scope="module")
def wide_lan(
    released: None,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[lans.Lan]:
    """The same box with an engine that takes thousands at once, behind an API process of its own."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    folder = tmp_path_factory.mktemp("wide")
    wide, log = folder / "site.toml", folder / "api.log"
    plain = private_site.LAYOUT.site_file.read_text(encoding="utf-8")
    wide.write_text(plain.replace("max_num_seqs = 8", "max_num_seqs = 4096"), encoding="utf-8")
    stand_in = EngineStandIn(settings.SITE.engine_socket("a")).start()
    with django_db_blocker.unblock(), lans.api_process(log, site=wide) as port:
        name = f"ward-{next(numbers)}"
        found = lans.Lan(port, log, stand_in, client=name, key=lans.new_key(name, lane="stat"))
        until(lambda: found.ask("GET", "/v1/models/default").status == 200, 10, "the API knows the key and the release")
        yield found
    stand_in.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


@pytest.fixture
def official(lan: lans.Lan) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, as an app would use it."""
    with openai.OpenAI(base_url=lan.url, api_key=lan.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def lan(db: None, api_port: int, api_log: Path, engine: EngineStandIn) -> lans.Lan:
    name = f"ward-{next(numbers)}"
    found = lans.Lan(api_port, api_log, engine, client=name, key=lans.new_key(name))
    until(lambda: found.ask("GET", "/v1/models/default").status == 200, 10, "the API knows the key and the release")
    return found
