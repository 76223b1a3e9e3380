"""`make up`: from a clean machine to one clinical answer with its audit trail, on real parts, then keep serving.

Decides: the order of the steps. Leaves to others: every act itself, which goes through the product's own commands.
Running it again repeats nothing that is already so. What it found at the end is in summary.json.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from provisioning import site_config, site_keys
from provisioning.evaluation import clinical, environments, people, request, stack, standing, supervisor
from provisioning.evaluation.bootstrap import STEPS_KEY
from provisioning.evaluation.servers import ServersError
from provisioning.evaluation.site_file import Layout, write
from provisioning.evaluation.steps import Step, Steps

BUNDLE_FOLDER = "evaluation"
CLIENT = "prior-auth-assistant"
API_WAIT_S = 90
AUDIT_WAIT_S = 30


class UpError(Exception):
    """A step failed. The message says which and where to look."""


class Stopped(Exception):
    """SIGINT or SIGTERM."""


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
            ("five people with passwords and one-time codes", self._people),
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
        for listener, path, name in ((self.site.api, "/v1/models", "api"), (self.site.console, "/", "console")):
            self._wait(step, lambda at=listener, to=path: _answers(at, to), API_WAIT_S, f"the {name} answers", name)
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
            raise UpError(f"there is no bundle on {medium}")
        self.bundle = max(here, key=lambda pair: pair[1])
        name, version = self.bundle
        self.digest = standing.release(self.site, name=name, version=version)
        if not self.digest:
            out = stack.manage(self.layout, "import_bundle", str(medium), name, "--actor", "alice")
            self.digest = out.strip().splitlines()[-1]
            step.done(f"{name} version {version} verified, release {self.digest[:12]}")
        else:
            step.done(f"{name} version {version} is already here, release {self.digest[:12]}")

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
                raise UpError(f"the engine did not start: {now.message if now else 'there is no deployment'}")
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
            raise UpError(f"no answer: {failure}; see {self.layout.logs}")
        faults = self.answer.faults(digest=self.digest, change_id=self.change_id) if self.answer else []
        if faults:
            raise UpError("; ".join(faults))
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

    def _wait(self, step: Step, done: Any, seconds: float, what: str, log: str) -> None:
        if not self.keeper.wait_until(done, seconds):
            tail = _tail(self.layout.logs / f"{log}.log")
            raise UpError(f"waited {seconds:.0f} s in vain: {what}. Last of {self.layout.logs / log}.log:\n{tail}")

    def summary(self, error: str = "") -> dict[str, Any]:
        receipt = self.answer.receipt if self.answer else {}
        verified = bool(self.audit.get("ok"))
        return {
            "ok": not error and self.answer is not None and verified,
            "error": error,
            "answer": self.answer.text if self.answer else "",
            "answer_seconds": self.answer.seconds if self.answer else None,
            "facts_missing": self.answer.facts_missing if self.answer else [],
            "receipt": receipt,
            "release_digest": self.digest,
            "change_id": self.change_id,
            "approvers": self.approvers,
            "audit_verified": verified,
            "audit": self.audit,
            "console": f"http://127.0.0.1:{self.layout.console_port}/",
            "api": f"http://127.0.0.1:{self.layout.api_port}/v1",
            "steps": json.loads(os.environ.get(STEPS_KEY, "[]")) + self.steps.as_json(),
        }

    def show(self) -> None:
        """The answer, its receipt, the records behind it, and the way in."""
        if self.answer is None:
            return
        print(f"\n--- the answer ({self.answer.seconds:.1f} s) ---\n{self.answer.text.strip()}")
        print(f"\n--- its receipt ---\n{json.dumps(self.answer.receipt, indent=2)}")
        print("\n--- the verified audit records behind it ---")
        for row in self.audit.get("records", []):
            print(f"  {row['position']:>8}  {row['at']}  {row['kind']:<8} {row['action']:<20} {row['outcome']}")
        print(f"\nConsole  {self.site.console.url}/      LAN API  {self.site.api.url}/v1")
        print(f"API key  {self.layout.base / 'api-key'}")
        print("Sign in as one of these; the one-time code comes from `make code PERSON=name`:")
        for person in self.cast.values():
            print(f"  {person.username:<6} {person.password}   {', '.join(person.roles)}")


def _check_free(port: int, variable: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UpError(f"port {port} is taken: make up {variable}=<another>") from None


def _answers(listener: site_config.Listener, path: str) -> bool:
    try:
        status, _ = request.call(listener, "GET", path)
    except request.RequestError:
        return True  # it answered, with a page
    except OSError:
        return False
    return status < 500


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
    except OSError:
        return "(no log)"


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def main() -> int:
    """Run the steps, show what came of them, and serve until told to stop."""
    layout = Layout(
        Path(sys.argv[1]).resolve(),
        media=Path(os.environ.get("MEDIA") or Layout.media),
        trust_root=Path(os.environ.get("TRUST_ROOT") or Layout.trust_root),
        console_port=int(os.environ.get("CONSOLE_PORT") or 8800),
        api_port=int(os.environ.get("API_PORT") or 8801),
        device=environments.device(),
    )
    once = os.environ.get("ONCE") == "1"
    run, error = Run(layout), ""
    summary = layout.base / "summary.json"
    summary.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        run.to_the_answer()
        _write_summary(summary, run.summary())
        run.show()
        if not once:
            print("\nServing until Ctrl-C.", flush=True)
            run.keeper.wait_until(lambda: False, float("inf"))
    except (UpError, ServersError, site_config.SiteError, stack.CommandError, request.RequestError) as failure:
        error = str(failure)
        print(f"\n{error}", file=sys.stderr, flush=True)
        _write_summary(summary, run.summary(error))
    except Stopped:
        error = "" if run.audit.get("ok") else "stopped before the answer"
        print("\nstopping ...", flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run.keeper.stop_all()
        supervisor.clean_up(layout.base)
    return 0 if not error and run.summary()["ok"] else 1


def _write_summary(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
