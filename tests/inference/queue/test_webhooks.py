"""An app is told at its own LAN address that work has ended: signed, ids only, again until taken, and nowhere else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from ipaddress import ip_network

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from openai import InvalidWebhookSignatureError, OpenAI
from pytest_django.fixtures import Settings

from inference.policy.rules import Rights
from inference.queue import rules, services, tasks, webhook
from inference.queue.errors import WebhookError
from inference.queue.models import Telling, Webhook
from inference.queue.tasks import Bench
from provisioning.site_config import Destination, Site
from tests.inference.queue.test_batches import lines, submit, turn
from tests.inference.queue.test_jobs import CANARY
from tests.inference.queue.test_jobs import submit as submit_job
from tests.simulators import lan as lans
from tests.simulators.engine import EngineStandIn


@dataclass
class App:
    """A clinical app's own little server."""

    status: int = 204
    heard: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/done?app=1"

    @property
    def allowed(self) -> tuple[Destination, ...]:
        return (Destination(ip_network("127.0.0.0/8"), self.port),)


@pytest.fixture
def app(site: Site, settings: Settings) -> Iterator[App]:
    found = App()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.heard.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.status)
            self.send_header("location", f"http://127.0.0.1:{found.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.SITE = replace(site, webhooks=found.allowed)
    yield found
    server.shutdown()
    server.server_close()


def register(rights: Rights, app: App) -> str:
    return services.register_webhook(actor="erin", client=rights.client, url=app.url, allowed=app.allowed)


def test_the_end_of_a_batch_and_of_a_job_is_told_once_signed_and_says_nothing_but_ids(
    rights: Rights, bench: Bench, engine: EngineStandIn, app: App
) -> None:
    before = submit(rights, lines(1))
    turn(bench, before)
    secret = register(rights, app)
    batch, job = submit(rights, lines(2)), submit_job(rights).ref
    turn(bench, batch)
    bench.runner.run(bench.attempt(job))
    tasks.tell()
    tasks.tell()
    client = OpenAI(api_key="-", base_url="http://127.0.0.1:1")
    events = [client.webhooks.unwrap(body, headers, secret=secret) for _, headers, body in app.heard]
    told = {(event.type, event.model_dump()["data"]["id"]) for event in events}
    assert told == {("batch.completed", batch), ("job.succeeded", job)}
    assert {path for path, _, _ in app.heard} == {"/done?app=1"}
    for _, headers, body in app.heard:
        assert set(json.loads(body)) == {"id", "object", "created_at", "type", "data"}
        assert CANARY not in body.decode() + repr(headers)
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.unwrap(body + b" ", headers, secret=secret)
    rows = lans.audit_rows("action = 'webhook.told'")
    assert sorted((row["target"], row["outcome"]) for row in rows) == sorted([(batch, "ok"), (job, "ok")])


def test_another_clients_work_is_not_told(rights: Rights, bench: Bench, engine: EngineStandIn, app: App) -> None:
    services.register_webhook(actor="erin", client="ward-8", url=app.url, allowed=app.allowed)
    turn(bench, submit(rights, lines(1)))
    tasks.tell()
    assert app.heard == []


@pytest.mark.parametrize("status", [500, 302, 404])
def test_what_is_not_taken_is_told_again_with_longer_pauses_and_given_up_on_record(
    rights: Rights, bench: Bench, engine: EngineStandIn, app: App, status: int
) -> None:
    register(rights, app)
    app.status = status
    batch = submit(rights, lines(1))
    turn(bench, batch)
    waits = []
    for _ in range(rules.MOST_TRIES + 2):
        tasks.tell()
        tasks.tell()  # not before its time
        waits.append(Telling.objects.get().not_before - timezone.now())
        Telling.objects.update(not_before=timezone.now())
    assert len(app.heard) == rules.MOST_TRIES
    assert {path for path, _, _ in app.heard} == {"/done?app=1"}  # no redirect is followed
    assert waits[2] > waits[1] * 2 > waits[0]
    (row,) = lans.audit_rows("action = 'webhook.told'")
    assert (row["target"], row["outcome"], json.loads(row["detail"])["tries"]) == (batch, "given_up", rules.MOST_TRIES)


def test_an_app_that_was_away_is_told_when_it_is_back_with_the_same_id(
    rights: Rights, bench: Bench, engine: EngineStandIn, app: App
) -> None:
    register(rights, app)
    app.status = 503
    turn(bench, submit(rights, lines(1)))
    tasks.tell()
    app.status = 200
    Telling.objects.update(not_before=timezone.now())
    tasks.tell()
    assert len({headers["webhook-id"] for _, headers, _ in app.heard}) == 1
    assert len(app.heard) == 2
    assert Telling.objects.get().ended is not None


def test_where_the_site_allows_nothing_nobody_is_told_anything(
    rights: Rights, bench: Bench, engine: EngineStandIn, app: App, site: Site, settings: Settings
) -> None:
    register(rights, app)
    turn(bench, submit(rights, lines(1)))
    settings.SITE = replace(site, webhooks=())
    tasks.tell()
    settings.SITE = replace(site, webhooks=(Destination(ip_network("10.0.0.0/8"), app.port),))
    tasks.tell()
    assert app.heard == []
    with pytest.raises(WebhookError):
        services.register_webhook(actor="erin", client=rights.client, url=app.url, allowed=())


ALLOWED = (Destination(ip_network("10.1.0.0/16"), 8443), Destination(ip_network("fd00::/8"), 443))


@pytest.mark.parametrize(
    "url",
    [
        "http://app.hospital.lan:8443/",
        "http://10.1.2.3:8444/",
        "http://10.2.2.3:8443/",
        "http://10.1.2.3/",
        "http://8.8.8.8:8443/",
        "http://user:word@10.1.2.3:8443/",
        "http://10.1.2.3:8443@8.8.8.8:8443/",
        "http://10.1.2.3:8443/\r\nX-Evil: 1",
        "http://10.1.2.3:8443/ HTTP/1.1",
        "http://0x0a010203:8443/",
        "http://167838211:8443/",
        "http://10.1.515:8443/",
        "http://[::ffff:10.1.2.3]:8443/",
        "http://10.1.2.3:99999/",
        "ftp://10.1.2.3:8443/",
        "file:///etc/passwd",
        "//10.1.2.3:8443/",
        "http://10.1.2.3:8443/#part",
        "http://10.1.2.3:8443/" + "a" * 300,
        "",
    ],
)
def test_an_address_that_the_site_does_not_allow_is_refused(url: str) -> None:
    with pytest.raises(WebhookError):
        webhook.target(url, ALLOWED)


def test_an_address_that_the_site_allows_is_taken_apart_as_it_is_called() -> None:
    assert webhook.target("http://10.1.2.3:8443/a?b=c", ALLOWED) == webhook.Target(False, "10.1.2.3", 8443, "/a?b=c")
    assert webhook.target("https://[fd00::1]", ALLOWED) == webhook.Target(True, "fd00::1", 443, "/")


def test_the_secret_is_sealed_and_the_command_prints_it_once(rights: Rights, app: App) -> None:
    out = StringIO()
    call_command("client_webhook", rights.client, "--actor", "erin", "--url", app.url, stdout=out)
    secret = out.getvalue().strip()
    assert secret.startswith("whsec_")
    stored = bytes(Webhook.objects.get().secret)
    assert secret.encode() not in stored + repr(lans.audit_rows()).encode()
    call_command("client_webhook", rights.client, "--actor", "erin", "--remove", stdout=out)
    assert [row["action"] for row in lans.audit_rows("action LIKE 'webhook.%'")] == [
        "webhook.registered",
        "webhook.removed",
    ]
    for arguments in (["--remove"], ["--url", "http://8.8.8.8/"]):
        with pytest.raises(CommandError):
            call_command("client_webhook", rights.client, "--actor", "erin", *arguments)
    with pytest.raises(CommandError):
        call_command("client_webhook", "nobody", "--actor", "erin", "--url", app.url)


def test_what_was_told_is_forgotten_and_not_found_again(
    rights: Rights, bench: Bench, engine: EngineStandIn, app: App
) -> None:
    register(rights, app)
    turn(bench, submit(rights, lines(1)))
    tasks.tell()
    services.forget_news()
    tasks.tell()
    assert (len(app.heard), Telling.objects.count()) == (1, 1)
    old = timezone.now() - timedelta(days=2)
    Telling.objects.update(created=old, ended=old)
    services.forget_news()
    assert Telling.objects.count() == 0
