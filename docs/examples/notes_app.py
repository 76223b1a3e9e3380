"""A reference app: progress notes and prior authorization letters, from record to a person's decision.

    ISOWARD_API_KEY=iwk_... python notes_app.py --base-url http://box.hospital:8801/v1 --user dr.lee

Opens http://127.0.0.1:8900/: fill in a record, get a draft, read it, then accept, edit or reject it; the box is told which.
One file, Python's standard library and the official `openai` client. It shows what an app must do and no more:

- It names task, purpose and user with each request, and sends only fields of the task.
- A draft is shown as a draft, with its receipt; a refusal by its code. What is not whole is not shown.
- Drafts are in memory, for this one person, until the decision; nothing is written to a disk or a log.
- It listens on this machine only; a form that another page made this browser send is refused.
"""

from __future__ import annotations

import argparse
import difflib
import html
import json
import os
import secrets
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import openai

TASKS = {
    "progress_note": (
        "Progress note",
        ("age", "sex", "visit_reason", "diagnoses", "codes", "medications", "lab_values", "plan"),
    ),
    "prior_auth_letter": (
        "Prior authorization letter",
        ("age", "sex", "diagnoses", "codes", "requested_service", "medications", "justification"),
    ),
}
LISTS = {"diagnoses", "codes", "medications"}
LARGEST_FORM = 65_536


@dataclass
class Draft:
    """What came back, until somebody has decided."""

    request_id: str
    title: str
    text: str = field(repr=False)
    dropped: list[str]
    missing_codes: int


class App:
    """One person at one screen."""

    def __init__(self, client: openai.OpenAI, user: str) -> None:
        self._client = client
        self._user = user
        self.drafts: dict[str, Draft] = {}
        self.token = secrets.token_hex(16)

    def draft(self, task: str, form: dict[str, str]) -> Draft:
        """Ask the box; openai.APIStatusError when it refuses."""
        title, names = TASKS[task]
        answer = self._client.chat.completions.create(
            model="default",
            user=self._user,
            metadata={"task": task, "purpose": "TREAT" if task == "progress_note" else "HPAYMT"},
            messages=[{"role": "user", "content": json.dumps(record(names, form), ensure_ascii=False)}],
        )
        receipt = (answer.model_extra or {})["receipt"]
        found = Draft(
            request_id=receipt["request_id"],
            title=title,
            text=answer.choices[0].message.content or "",
            dropped=receipt["dropped_fields"],
            missing_codes=(receipt["checks"] or {}).get("missing_codes", 0),
        )
        self.drafts[found.request_id] = found
        return found

    def decide(self, request_id: str, verdict: str, text: str) -> str:
        """Tell the box what the person did; what they made of it stays here. The word that was told."""
        draft = self.drafts[request_id]
        distance = edits(draft.text, text) if verdict == "accepted" else 0
        told = "edited" if distance else verdict
        body = {"request_id": request_id, "decision": told, "user": self._user, "edit_distance": distance}
        self._client.post("/decisions", body=body, cast_to=object)
        del self.drafts[request_id]
        return told


def record(names: tuple[str, ...], form: dict[str, str]) -> dict[str, Any]:
    """The fields that were filled in; a list is written with commas."""
    given = {name: form[name].strip() for name in names if form.get(name, "").strip()}
    return {
        name: [part.strip() for part in text.split(",")] if name in LISTS else int(text) if name == "age" else text
        for name, text in given.items()
    }


def edits(before: str, after: str) -> int:
    """How many characters were taken out or put in."""
    steps = difflib.SequenceMatcher(None, before, after.replace("\r\n", "\n"), autojunk=False).get_opcodes()
    return sum(max(a2 - a1, b2 - b1) for kind, a1, a2, b1, b2 in steps if kind != "equal")


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px sans-serif;max-width:44em;margin:2em auto}}label{{display:block;margin:.5em 0}}
input,textarea{{width:100%;box-sizing:border-box}}.draft{{color:#a00;font-weight:bold}}</style>
<h1>{title}</h1>{body}"""


class Handler(BaseHTTPRequestHandler):
    """Three pages: the form, the draft, the end."""

    app: App
    server_version = "notes"
    sys_version = ""

    def do_GET(self) -> None:
        """The two forms."""
        if self.path != "/" or not self._asked_for_us():
            self._show(404, "Not found", "")
            return
        self._show(200, "New draft", "".join(self._form(task) for task in TASKS))

    def do_POST(self) -> None:
        """A form that was sent from one of our pages."""
        form = self._read() if self._asked_for_us() else None
        if form is None:
            self._show(403, "Refused", "<p>That form was not sent from here.</p>")
            return
        try:
            if self.path == "/draft" and form.get("task") in TASKS:
                self._review(self.app.draft(form["task"], form))
            elif self.path == "/decide" and form.get("id") in self.app.drafts:
                told = self.app.decide(form["id"], form.get("verdict", ""), form.get("text", ""))
                self._show(200, f"The draft was {told}", '<p><a href="/">Another one</a></p>')
            else:
                self._show(404, "Not found", "")
        except openai.APIStatusError as error:
            where = f" ({html.escape(str(error.param))})" if error.param else ""
            number = html.escape(str(error.response.headers.get("x-request-id")))
            self._show(
                502,
                "No draft",
                f"<p>The box refused: <code>{html.escape(str(error.code))}</code>{where}.</p><p>{number}</p>",
            )
        except openai.APIConnectionError:
            self._show(502, "No draft", "<p>The box cannot be reached.</p>")
        except ValueError:
            self._show(400, "No draft", "<p>The age is a whole number.</p>")

    def log_message(self, *_: Any) -> None:
        """Nothing: a request line can hold what was typed."""

    def _form(self, task: str) -> str:
        title, names = TASKS[task]
        lines = "".join(f'<label>{name.replace("_", " ")} <input name="{name}"></label>' for name in names)
        return f'<h2>{title}</h2><form method="post" action="/draft">{self._hidden(task=task)}{lines}<button>Draft</button></form>'

    def _review(self, draft: Draft) -> None:
        told = f"<p>Not shown to the model: {html.escape(', '.join(draft.dropped))}</p>" if draft.dropped else ""
        told += f"<p>{draft.missing_codes} of the codes are not in it.</p>" if draft.missing_codes else ""
        buttons = "".join(
            f'<button name="verdict" value="{value}">{word}</button> '
            for value, word in (("accepted", "Sign as it stands here"), ("rejected", "Reject"))
        )
        self._show(
            200,
            draft.title,
            '<p class="draft">A draft, written by a machine. Read it before it means anything.</p>'
            f'<form method="post" action="/decide">{self._hidden(id=draft.request_id)}'
            f'<textarea name="text" rows="20">{html.escape(draft.text)}</textarea>{told}{buttons}</form>'
            f"<p>Receipt <code>{html.escape(draft.request_id)}</code></p>",
        )

    def _hidden(self, **values: str) -> str:
        both = {**values, "token": self.app.token}
        return "".join(f'<input type="hidden" name="{name}" value="{html.escape(both[name])}">' for name in both)

    def _asked_for_us(self) -> bool:
        """Under our own name: a page of another name that leads to this machine must not read what is here."""
        return (self.headers.get("Host") or "").partition(":")[0] in {"127.0.0.1", "localhost"}

    def _read(self) -> dict[str, str] | None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_FORM:
            return None
        form = {
            name: values[0] for name, values in parse_qs(self.rfile.read(length).decode(), max_num_fields=20).items()
        }
        return form if secrets.compare_digest(form.pop("token", ""), self.app.token) else None

    def _show(self, status: int, title: str, body: str) -> None:
        page = PAGE.format(title=html.escape(title), body=body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
        self.end_headers()
        self.wfile.write(page)


def main() -> None:
    """Serve one person until they stop it."""
    options = argparse.ArgumentParser(description="A reference app for the LAN API")
    options.add_argument("--base-url", required=True)
    options.add_argument("--user", required=True, help="whom the app acts for")
    options.add_argument("--port", type=int, default=8900)
    given = options.parse_args()
    with openai.OpenAI(
        base_url=given.base_url, api_key=os.environ["ISOWARD_API_KEY"], max_retries=2, timeout=120
    ) as client:
        Handler.app = App(client, given.user)
        with ThreadingHTTPServer(("127.0.0.1", given.port), Handler) as server:
            print(f"http://127.0.0.1:{server.server_port}/", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
