"""Chromium over the console, in a process of its own: what it finds on each page comes back as JSON.

A process of its own because the driver keeps an event loop in its thread, and Django asks no database beside one. The
tests say which pages, as whom, after which steps; judging what comes back is theirs.

    python -m tests.console.browse < visits.json > found.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

AXE = Path(__file__).parent / "axe"
REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_MS = 30_000
WIDE, NARROW = 1280, 360
EVERY_LOOK = (("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW))
HEIGHT = 900
# WCAG 2.2, A and AA. The size of targets is AA in 2.2 and off by default in axe.
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],
}
SIDEWAYS = "document.documentElement.scrollWidth - window.innerWidth"

# A session goes on only in the browser that it began in: who signs in for a visit says to be this one.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0.0.0 isoward-tests"


@dataclass(frozen=True)
class Visit:
    """One page as one person sees it. `steps` are (do, where, with what); `_step` says what there is to do."""

    name: str
    path: str
    cookies: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[str, str, str]] = ()
    looks: Sequence[tuple[str, int]] = EVERY_LOOK
    shot: str = ""
    """A picture per look is left in this folder."""
    scripts: bool = True
    widths: Sequence[int] = (NARROW, 768, WIDE, 2560)
    """Where nothing may scroll sideways."""
    ask: Mapping[str, str] = field(default_factory=dict)
    """Expressions whose values are wanted, by name."""
    wait: str = ""
    """What must be there before anything is looked at."""


@dataclass
class Found:
    """What was wrong with a page, in sentences, and what was asked for."""

    name: str
    problems: list[str] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)


def browse(base: str, visits: Iterable[Visit]) -> dict[str, Found]:
    """Make these visits in a browser beside this process; what was found, by name."""
    told = json.dumps({"base": base, "visits": [asdict(visit) for visit in visits]})
    done = subprocess.run(
        [sys.executable, "-m", "tests.console.browse"], input=told, text=True, capture_output=True, check=False,
        cwd=REPOSITORY, timeout=840,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"the browser's process failed:\n{done.stderr[-4000:]}")
    return {found["name"]: Found(**found) for found in json.loads(done.stdout)}


def axe() -> str:
    """The checker's text, if it is the one that was vendored."""
    for line in (AXE / "HASHES").read_text(encoding="ascii").splitlines():
        digest, name = line.split()
        if hashlib.sha256((AXE / name).read_bytes()).hexdigest() != digest:
            raise RuntimeError(f"{name} is not the file that was vendored")
    return (AXE / "axe.min.js").read_text(encoding="utf-8")


def chromium() -> str:
    """Debian's Chromium; empty when there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


def _visit(context: BrowserContext, base: str, visit: Visit, checker: str) -> Found:
    found, page = Found(visit.name), context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    _watch(page, base, found)
    page.set_viewport_size({"width": WIDE, "height": HEIGHT})
    page.goto(base + visit.path)
    for step in visit.steps:
        _step(page, *step)
    if visit.wait:
        page.wait_for_selector(visit.wait)
    if visit.scripts:
        # Through the debugger, which the page's policy does not bind: the policy itself stays as it is served.
        debugger = context.new_cdp_session(page)
        debugger.send("Runtime.evaluate", {"expression": checker})
    for scheme, width in visit.looks:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # a word from JSON
        page.set_viewport_size({"width": width, "height": HEIGHT})
        if visit.scripts:
            told = debugger.send(
                "Runtime.evaluate", {"expression": _run(), "awaitPromise": True, "returnByValue": True}
            )
            found.problems += [f"{scheme} {width}: {line}" for line in _violations(told)]
        if visit.shot:
            Path(visit.shot).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(visit.shot) / f"{visit.name}-{width}-{scheme}.png", full_page=True)
    for width in visit.widths:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.wait_for_function("width => window.innerWidth === width", arg=width)
        if (over := page.evaluate(SIDEWAYS)) > 0:
            found.problems.append(f"scrolls sideways by {over} at {width}")
    found.asked = {name: page.evaluate(expression) for name, expression in visit.ask.items()}
    page.close()
    return found


def _step(page: Page, do: str, where: str, value: str) -> None:
    target = page.locator(where).first
    match do:
        case "fill":
            target.fill(value)
        case "check":
            target.check()
        case "choose":
            target.select_option(value)
        case "press":
            target.click()
        case "wait":
            target.wait_for()
        case "run":
            page.evaluate(value)
        case "submit":
            # As it is: the browser's own refusal of an empty field must not hide what the page says about one.
            with page.expect_navigation():
                target.evaluate("form => form.submit()")
        case _:
            raise ValueError(do)


def _run() -> str:
    return f"axe.run(document, {json.dumps(RULES)}).then(found => found.violations)"


def _violations(told: Mapping[str, Any]) -> list[str]:
    if "exceptionDetails" in told:
        raise RuntimeError(json.dumps(told["exceptionDetails"])[:2000])
    return [
        f"{rule['id']}: {node['html'][:160]} ({' '.join(node.get('failureSummary', '').split())[:300]})"
        for rule in told["result"]["value"]
        for node in rule["nodes"]
    ]


def _watch(page: Page, base: str, found: Found) -> None:
    def said(message: ConsoleMessage) -> None:
        # Chromium itself notes a refusal's status; what a page refuses is its test's matter.
        if message.type in {"error", "warning"} and "the server responded with a status of 4" not in message.text:
            found.problems.append(f"said: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: found.problems.append(f"broke: {error}"))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((base + "/", "data:,"))
            else found.problems.append(f"asked another host: {asked.url}")
        ),
    )


def main() -> int:
    """Read the visits, make them, write what was found."""
    told = json.load(sys.stdin)
    checker, results = axe(), []
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        contexts: dict[str, BrowserContext] = {}
        for raw in told["visits"]:
            visit = Visit(**raw)
            key = json.dumps([visit.cookies, visit.scripts])
            if key not in contexts:
                contexts[key] = browser.new_context(java_script_enabled=visit.scripts, user_agent=AGENT)
                contexts[key].add_cookies(
                    [{"name": name, "value": value, "url": told["base"]} for name, value in visit.cookies.items()]
                )
            results.append(asdict(_visit(contexts[key], told["base"], visit, checker)))
        browser.close()
    json.dump(results, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
