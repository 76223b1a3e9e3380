"""The evaluation's cast: six people with random passwords and one-time-code seeds, known to whoever may read var/.

Decides: who they are and what they may do. Leaves to others: creating them in the product (manage.py create_person).
On a hospital's box there is no such file and no such command: people enrol their own devices.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STEP_S = 30
ROLES = {
    "alice": ("Alice Moreau", ["model_operator"]),
    "bob": ("Bob Lindqvist", ["approver"]),
    "carol": ("Carol Okafor", ["approver"]),
    "dave": ("Dave Petrov", ["auditor"]),
    "erin": ("Erin Tanaka", ["it_admin", "app_owner"]),
    "grace": ("Grace Adeyemi", ["security_officer"]),
}


@dataclass(frozen=True)
class Person:
    """One member of the cast, in the shape `manage.py create_person` reads."""

    username: str
    display_name: str
    password: str
    roles: list[str]
    totp_seed: str

    def code(self, at: float | None = None) -> str:
        """The one-time code (RFC 6238, SHA-1, six digits) for this moment."""
        counter = int(time.time() if at is None else at) // STEP_S
        mac = hmac.new(base64.b32decode(self.totp_seed), struct.pack(">Q", counter), hashlib.sha1).digest()
        offset = mac[-1] & 0x0F
        number = struct.unpack(">I", mac[offset : offset + 4])[0] & 0x7FFFFFFF
        return f"{number % 1_000_000:06}"

    @staticmethod
    def seconds_left(at: float | None = None) -> int:
        return STEP_S - int(time.time() if at is None else at) % STEP_S


def ensure(path: Path) -> dict[str, Person]:
    """The cast of this site; made and written (0600) when there is none."""
    if not path.exists():
        people = [
            Person(
                username=name,
                display_name=title,
                password="-".join(secrets.token_hex(2) for _ in range(5)),
                roles=roles,
                totp_seed=base64.b32encode(secrets.token_bytes(20)).decode("ascii"),
            )
            for name, (title, roles) in ROLES.items()
        ]
        partial = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(person) for person in people], file, indent=2)
        partial.replace(path)
    return load(path)


def load(path: Path) -> dict[str, Person]:
    return {row["username"]: Person(**row) for row in json.loads(path.read_text(encoding="utf-8"))}


def main() -> int:
    """`make code PERSON=bob`: that person's one-time code now, and how long it is good for."""
    base, name = Path(sys.argv[1]), sys.argv[2]
    try:
        person = load(base / "people.json")[name]
    except OSError:
        print("there is no evaluation site yet: run `make up` first", file=sys.stderr)
        return 1
    except KeyError:
        print(f"there is nobody called {name!r}: {', '.join(ROLES)}", file=sys.stderr)
        return 1
    print(f"{person.code()}   ({name}; good for {person.seconds_left()} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
