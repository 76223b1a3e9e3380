"""Django's session engine, for staff: the cookie is not in the database, and no row counts that this process did not write.

- A row is found by a keyed hash of its cookie: a dump of the table opens no session.
- One signature covers the row's every column, under a key outside the database: a row that was inserted, altered or
  copied to another cookie is nobody's session, and leaves a record (SECURITY.md, T36).
- What is deleted is over. A row that is put back as it was, within its twelve hours, would count again: see
  docs/threat-model.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core import signing
from django.utils import timezone
from django.utils.crypto import salted_hmac

from appliance.accounts import rules
from appliance.accounts.models import StaffSession
from appliance.audit import services as audit
from appliance.audit.actions import Action

# Where the pages keep what the columns show; the names are the pages' own.
PERSON, BEGAN, SEEN, SOURCE, AGENT = "_auth_user_id", "signed_in_at", "seen_at", "source", "agent"

_KEY_LENGTH = 40


def row_key(cookie: str) -> str:
    """The name of a cookie's row."""
    return salted_hmac("isoward.session-row", cookie, algorithm="sha256").hexdigest()[:_KEY_LENGTH]


class SessionStore(DatabaseStore):
    """Sessions of staff, and of strangers at the first step of sign-in."""

    @classmethod
    def get_model_class(cls) -> type[StaffSession]:
        """Our own table."""
        return StaffSession

    def load(self) -> dict[str, Any]:
        """What the session holds; nothing when there is no such row or its signature does not fit it."""
        row = StaffSession.objects.filter(
            session_key=row_key(self.session_key or ""), expire_date__gt=timezone.now()
        ).first()
        if row is None:
            self._session_key = None
            return {}
        try:
            data: dict[str, Any] = signing.loads(row.session_data, salt=_salt(row), serializer=self.serializer)
        except (signing.BadSignature, ValueError):
            self._session_key = None
            _refuse(row)
            return {}
        return data

    def exists(self, session_key: str) -> bool:
        """Whether this cookie is taken."""
        return StaffSession.objects.filter(session_key=row_key(session_key)).exists()

    def delete(self, session_key: str | None = None) -> None:
        """End it, on the machine too."""
        session_key = session_key or self.session_key
        if session_key:
            StaffSession.objects.filter(session_key=row_key(session_key)).delete()

    def create_model_instance(self, data: Mapping[str, Any]) -> StaffSession:
        """The row for what the session holds now, signed."""
        row = StaffSession(
            session_key=row_key(self._get_or_create_session_key()),  # type: ignore[attr-defined]  # not in the stubs
            person_id=int(data[PERSON]) if data.get(PERSON) else None,
            began=_moment(data.get(BEGAN)),
            last_seen=_moment(data.get(SEEN)),
            source=str(data.get(SOURCE, ""))[:45],
            agent=rules.agent_family(str(data[AGENT])) if data.get(PERSON) and AGENT in data else "",
            expire_date=self.get_expiry_date(),
        )
        row.session_data = signing.dumps(dict(data), salt=_salt(row), serializer=self.serializer, compress=True)
        return row


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)


def _salt(row: StaffSession) -> str:
    columns = (row.session_key, row.person_id, row.began, row.last_seen, row.source, row.agent, row.expire_date)
    # As text that cannot be read two ways: moments in UTC, each part with its length.
    parts = [str(part.astimezone(UTC)) if isinstance(part, datetime) else repr(part) for part in columns]
    return "isoward.session:" + "".join(f"{len(part)}:{part}" for part in parts)


def _refuse(row: StaffSession) -> None:
    """Once for each row: it is recorded and taken away."""
    if StaffSession.objects.filter(pk=row.pk).delete()[0]:
        name = row.person.username if row.person is not None else "unknown"
        audit.refuse(
            actor=name,
            action=Action.SESSION_REFUSED,
            target=f"session:{row.pk[:12]}",
            outcome="signature",
            detail={"source": row.source},
        )
