"""The steps of `make up`, from an empty directory to one clinical answer with its verified audit trail.

Decides: what each step does and that none repeats what is already so.
Leaves to others: every act itself, which goes through the product's own commands; how it is shown (report).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioning import site_config, site_keys
from provisioning.evaluation import clinical, people, request, stack, standing, supervisor
from provisioning.evaluation.site_file import Layout, end_of, write
from provisioning.evaluation.steps import Step, Steps

BUNDLE_FOLDER = "evaluation"
CLIENT = "prior-auth-assistant"
API_WAIT_S = 90
AUDIT_WAIT_S = 30


class RunError(Exception):
    """A step failed. The message says which and where to look."""


@dataclass
class Run:
    """One `make up`, step by step; the fields are what the steps found."""

    layout: Layout
    steps: Steps = field(default_factory=Steps)
    keeper: supervisor.Supervisor = field(init=False)
    site: site_config.Site = field(init=False)
    cast: dict[str, people.Person] = field(init=False)
    key: str = ""
    bundle: tuple[str, int] = ("", 0)
    digest: str = ""
    change_id: int = 0
    approvers: list[str] = field(default_factory=list)
    answer: request.Answer | None = None
    audit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keeper = supervisor.Supervisor(self.layout.base, say=lambda line: print(f"      {line}", flush=True))

    def to_the_answer(self) -> None:
        """Every step in order; each says what it does and how long it took."""
        for name, act in (
            ("clean up what an earlier run left", self._clean),
            ("site file and secrets", self._site),
            ("PostgreSQL and Redis", self._servers),
            ("database schema and roles", self._migrate),
            ("six people with passwords and one-time codes", self._people),
            ("console, LAN API, workers, sampler, sealer, engine supervisor", self._processes),
            ("a clinical application and its API key", self._client),
            ("import the evaluation bundle from its medium", self._import),
            ("propose and approve it: alice proposes, bob and carol sign", self._approve),
            ("the engine starts and proves itself", self._engine),
            ("one clinical task through the LAN API", self._ask),
            ("verify the audit trail behind the answer", self._verify),
        ):
            with self.steps.step(name) as step:
                act(step)

    def _clean(self, step: Step) -> None:
        ended = supervisor.clean_up(self.layout.base)
        for port, variable in ((self.layout.console_port, "CONSOLE_PORT"), (self.layout.api_port, "API_PORT")):
            _check_free(port, variable)
        step.done(f"ended {', '.join(ended)}" if ended else "nothing was left")

    def _site(self, step: Step) -> None:
        self.site = write(self.layout)
        made = site_keys.create_missing(self.site)
        step.done(f"made {', '.join(made)}" if made else "already there")

    def _servers(self, step: Step) -> None:
        for program in stack.data_servers(self.layout, self.site):
            step.progress(program.name)
            self.keeper.start(program)
        # The engine of an earlier run's approved order is the slowest to start: its keeper needs nothing else.
        for program in stack.keepers(self.layout):
            self.keeper.start(program)

    def _migrate(self, _step: Step) -> None:
        owner = self.site.postgres.owner_role
        stack.manage(self.layout, "migrate", "--no-input", "--verbosity", "0", role=owner)
        stack.manage(self.layout, "grant_roles", role=owner)

    def _people(self, step: Step) -> None:
        self.cast = people.ensure(self.layout.people)
        text = json.dumps([vars(person) for person in self.cast.values()])
        said = stack.manage(self.layout, "create_person", stdin=text)
        step.done(f"{said.count(': created')} created, {said.count(': already here')} already here")

    def _processes(self, step: Step) -> None:
        for program in stack.appliance(self.layout, self.site):
            self.keeper.start(program)
        self._wait(step, lambda: _answers(self.site.api, "/v1/models"), API_WAIT_S, "the LAN API answers", "api")
        self._wait(step, lambda: _answers(self.site.console, "/"), API_WAIT_S, "the console answers", "console")
        step.done(f"{len(self.keeper.children)} processes")

    def _client(self, step: Step) -> None:
        path = self.layout.base / "api-key"
        if not (path.exists() and standing.client_exists(self.site, name=CLIENT)):
            wanted = {
                "name": CLIENT,
                "title": "Prior authorization assistant",
                "owner": "Care management",
                "tasks": sorted(clinical.TASKS),
                "purposes": ["TREAT", "HPAYMT"],
                "lane": "interactive",
                "phi": True,
            }
            key = stack.manage(self.layout, "create_client", "--actor", "erin", stdin=json.dumps(wanted)).strip()
            _write_private(path, key)
            step.done(f"{CLIENT}; the key is in {path}")
        self.key = path.read_text(encoding="ascii").strip()

    def _import(self, step: Step) -> None:
        medium = self.layout.media / BUNDLE_FOLDER
        found = [line.split() for line in stack.manage(self.layout, "import_bundle").splitlines()]
        here = [(words[1], int(words[3])) for words in found if words[0] == str(medium)]
        if not here:
            raise RunError(f"there is no bundle on {medium}")
        self.bundle = max(here, key=lambda pair: pair[1])
        name, version = self.bundle
        self.digest = standing.digest_on_medium(medium / "targets" / name)
        if standing.release_known(self.site, digest=self.digest):
            step.done(f"{name} version {version} is already here, release {self.digest[:12]}")
            return
        try:
            out = stack.manage(self.layout, "import_bundle", str(medium), name, "--actor", "alice")
        except stack.CommandError as error:
            if standing.deployment(self.site) is None:
                raise
            # A box keeps what it has seen of a publisher, on purpose; this one was filled from another signing.
            raise RunError(f"{error}\nTo begin anew with this bundle, remove {self.layout.base}") from error
        self.digest = out.strip().splitlines()[-1]
        step.done(f"{name} version {version} verified, release {self.digest[:12]}")

    def _approve(self, step: Step) -> None:
        now = standing.deployment(self.site)
        if now is not None and now.release == self.digest and now.state in ("starting", "serving"):
            self.change_id = now.change_id
        else:
            self.change_id = standing.open_change(self.site, subject=self.digest) or self._propose()
            for name in ("bob", "carol"):
                if name not in standing.approvers(self.site, change_id=self.change_id):
                    self._sign(step, self.cast[name])
        self.approvers = standing.approvers(self.site, change_id=self.change_id)
        step.done(f"change {self.change_id}, approved by {' and '.join(self.approvers)}")

    def _propose(self) -> int:
        reason = "Evaluation of the appliance with its own demonstration model"
        return int(
            stack.manage(
                self.layout, "propose_activation", self.digest, "--actor", "alice", "--reason", reason
            ).split()[-1]
        )

    def _sign(self, step: Step, person: people.Person) -> None:
        step.progress(f"{person.username} signs")
        secrets = f"{person.password}\n{person.code()}\n"
        arguments = ("approve_change", str(self.change_id), "--actor", person.username)
        try:
            stack.manage(self.layout, *arguments, stdin=secrets)
        except stack.CommandError as error:
            # A code is good once: somebody signed in with this one in the same half minute.
            if "code" not in str(error):
                raise
            time.sleep(person.seconds_left() + 1)
            stack.manage(self.layout, *arguments, stdin=f"{person.password}\n{person.code()}\n")

    def _engine(self, step: Step) -> None:
        def serving() -> bool:
            now = standing.deployment(self.site)
            if now is None or now.state in ("failed", "retired"):
                raise RunError(f"the engine did not start: {now.message if now else 'there is no deployment'}")
            step.progress(f"slot {now.slot}: {self._report(now.slot)}")
            return now.state == "serving" and self._listening(now.slot)

        self._wait(step, serving, self.site.engine.start_timeout_s, "the engine serves", "keeper-a")
        now = standing.deployment(self.site)
        step.done(f"serving from slot {now.slot}" if now else "serving")

    def _report(self, slot: str) -> str:
        try:
            report = json.loads((self.site.slots_dir / slot / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "waiting for its keeper"
        return f"{report.get('state')} {report.get('message') or ''}".strip()

    def _listening(self, slot: str) -> bool:
        """After a restart the row says serving before the engine is back."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            return connection.connect_ex(str(self.site.engine_socket(slot))) == 0

    def _ask(self, step: Step) -> None:
        failure = request.RequestError("not asked yet")

        def answered() -> bool:
            nonlocal failure
            try:
                self.answer = request.ask(self.site.api, self.key)
            except (request.RequestError, OSError) as error:
                failure = request.RequestError(str(error))
            return self.answer is not None

        # The doors learn of the engine by notification; a few seconds' delay is normal, more is a fault.
        if not self.keeper.wait_until(answered, API_WAIT_S):
            raise RunError(f"no answer: {failure}; see {self.layout.logs}")
        faults = self.answer.faults(digest=self.digest, change_id=self.change_id) if self.answer else []
        if faults:
            raise RunError("; ".join(faults))
        step.done(f"{len(self.answer.text) if self.answer else 0} characters")

    def _verify(self, step: Step) -> None:
        receipt = self.answer.receipt if self.answer else {}

        def verified() -> bool:
            try:
                self.audit = json.loads(
                    stack.manage(self.layout, "verify_audit", "--json", "--request", str(receipt["request_id"]))
                )
            except stack.CommandError as error:
                step.progress(str(error).splitlines()[-1])
                return False
            behind = [row for row in self.audit.get("records", []) if row["release"] == self.digest]
            # The outcome is written after the answer left, and sealed within a second of that.
            return bool(self.audit.get("ok")) and {"intent", "outcome"} <= {row["kind"] for row in behind}

        self._wait(step, verified, AUDIT_WAIT_S, "the audit trail verifies", "sealer")
        step.done(f"{self.audit.get('sealed')} records sealed")

    def _wait(self, step: Step, done: Callable[[], bool], seconds: float, what: str, log: str) -> None:
        if not self.keeper.wait_until(done, seconds):
            tail = end_of(self.layout.logs / f"{log}.log", 12)
            raise RunError(f"waited {seconds:.0f} s in vain: {what}. Last of {self.layout.logs / log}.log:\n{tail}")


def _check_free(port: int, variable: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise RunError(f"port {port} is taken: make up {variable}=<another>") from None


def _answers(listener: site_config.Listener, path: str) -> bool:
    try:
        status, _ = request.call(listener, "GET", path)
    except request.RequestError:
        return True  # it answered, with a page
    except OSError:
        return False
    return status < 500


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
