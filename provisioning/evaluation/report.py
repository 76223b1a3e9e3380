"""What `make up` found: summary.json for a program, the answer and the way in for a person.

Decides: what counts as success. Leaves to others: finding it out (run).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from provisioning.evaluation.bootstrap import STEPS_KEY
from provisioning.evaluation.run import Run
from provisioning.evaluation.site_file import Layout


def path(layout: Layout) -> Path:
    return layout.base / "summary.json"


def taken_before() -> list[dict[str, Any]]:
    """The steps of the bootstrap, which ran in another process."""
    steps: list[dict[str, Any]] = json.loads(os.environ.get(STEPS_KEY) or "[]")
    return steps


def summary(run: Run, error: str = "") -> dict[str, Any]:
    """Everything the run knows; `ok` only with an answer and a verified trail behind it."""
    answer = run.answer
    verified = bool(run.audit.get("ok"))
    return {
        "ok": not error and answer is not None and verified,
        "error": error,
        "answer": answer.text if answer else "",
        "answer_seconds": answer.seconds if answer else None,
        "facts_missing": answer.facts_missing if answer else [],
        "receipt": answer.receipt if answer else {},
        "release_digest": run.digest,
        "change_id": run.change_id,
        "approvers": run.approvers,
        "audit_verified": verified,
        "audit": run.audit,
        "console": f"http://127.0.0.1:{run.layout.console_port}/",
        "api": f"http://127.0.0.1:{run.layout.api_port}/v1",
        "steps": taken_before() + run.steps.as_json(),
    }


def write(run: Run, error: str = "") -> None:
    target = path(run.layout)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(summary(run, error), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(target)


def show(run: Run) -> None:
    """The answer, its receipt, the records behind it, and the way in."""
    if run.answer is None:
        return
    print(f"\n--- the answer ({run.answer.seconds:.1f} s) ---\n{run.answer.text.strip()}")
    print(f"\n--- its receipt ---\n{json.dumps(run.answer.receipt, indent=2)}")
    print("\n--- the verified audit records behind it ---")
    for row in run.audit.get("records", []):
        print(f"  {row['position']:>8}  {row['at']}  {row['kind']:<8} {row['action']:<20} {row['outcome']}")
    print(f"\nConsole  {run.site.console.url}/      LAN API  {run.site.api.url}/v1")
    print(f"API key  {run.key}   (also in {run.layout.base / 'api-key'})")
    print("Sign in as one of these; the one-time code comes from `make code PERSON=name`:")
    for person in run.cast.values():
        print(f"  {person.username:<6} {person.password}   {', '.join(person.roles)}")
    seconds = sum(float(step["seconds"]) for step in summary(run)["steps"])
    print(f"\nFrom the first step to here: {seconds:.0f} s. All of it: {path(run.layout)}", flush=True)
