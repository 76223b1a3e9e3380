"""Reading people: lists for pages, and the roster that approvals are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from appliance.accounts import rules
from appliance.accounts.models import (
    FactorReset,
    FirstBoot,
    Passkey,
    Person,
    RecoverySheet,
    SigningKey,
    StaffSession,
    TotpDevice,
)
from appliance.accounts.permissions import Permission, Role, granted
from provisioning.approval import RosterEntry


@dataclass(frozen=True)
class PersonRow:
    """A person as a page shows it."""

    username: str
    display_name: str
    roles: tuple[Role, ...]
    phi_view: bool
    from_directory: bool
    is_active: bool
    has_code: bool
    keys: int
    reset_waiting: bool
    signing_key_id: str
    locked_until: datetime | None
    last_sign_in: datetime | None
    created_at: datetime


def people() -> tuple[PersonRow, ...]:
    """Everybody, active first, by name."""
    return _rows(Person.objects.all())


def person(username: str) -> PersonRow | None:
    """One person, or None."""
    return next(iter(_rows(Person.objects.filter(username=username))), None)


def _rows(found: QuerySet[Person]) -> tuple[PersonRow, ...]:
    """One query, however many people there are."""
    own = OuterRef("pk")
    keys = Passkey.objects.filter(user_id=own).order_by().values("user_id").annotate(count=Count("pk"))
    signing = SigningKey.objects.filter(person=OuterRef("username"), retired_at=None)
    marked = found.annotate(
        has_code=Exists(TotpDevice.objects.filter(user_id=own, confirmed=True)),
        reset_waiting=Exists(_waiting().filter(person=OuterRef("username"))),
        key_count=Coalesce(Subquery(keys.values("count")), 0),
        signing_key_id=Coalesce(Subquery(signing.values("key_id")[:1]), Value("")),
    )
    return tuple(
        PersonRow(
            username=person.username,
            display_name=person.display_name,
            roles=tuple(Role(role) for role in person.roles),
            phi_view=person.may_see_patients,
            from_directory=bool(person.directory_id),
            is_active=person.is_active,
            has_code=person.has_code,
            keys=person.key_count,
            reset_waiting=person.reset_waiting,
            signing_key_id=person.signing_key_id,
            locked_until=person.locked_until,
            last_sign_in=person.last_login,
            created_at=person.created_at,
        )
        for person in marked.order_by("-is_active", "username")
    )


@dataclass(frozen=True)
class Generator:
    """A one-time-code generator as a page shows it."""

    drift: timedelta
    enrolled_at: datetime

    @property
    def off(self) -> bool:
        """Whether its clock is so far from ours that somebody should set one of them."""
        return abs(self.drift) > timedelta(seconds=rules.TOTP_STEP_SECONDS)

    @property
    def words(self) -> str:
        """The clock in words."""
        seconds = int(abs(self.drift).total_seconds())
        if not seconds:
            return "its clock agrees with ours"
        return f"its clock is {seconds} s {'ahead of' if self.drift > timedelta() else 'behind'} ours"


@dataclass(frozen=True)
class SecurityKey:
    """A security key or passkey as a page shows it."""

    id: int
    name: str
    synced: bool
    enrolled_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Factors:
    """Everything a person can show beside the password."""

    generator: Generator | None
    keys: tuple[SecurityKey, ...]
    recovery_left: int
    recovery_made_at: datetime | None

    @property
    def any(self) -> bool:
        """Whether there is a factor that opens the door more than once."""
        return self.generator is not None or bool(self.keys)

    @property
    def few_codes(self) -> bool:
        """Whether a new sheet of recovery codes is due."""
        return self.recovery_left < 3


def factors(username: str) -> Factors:
    """The second factors of one person."""
    totp = TotpDevice.objects.filter(user__username=username, confirmed=True).first()
    sheet = (
        RecoverySheet.objects.filter(user__username=username)
        .annotate(left=Count("codes", filter=Q(codes__used_at=None)))
        .first()
    )
    return Factors(
        generator=Generator(timedelta(seconds=totp.drift * rules.TOTP_STEP_SECONDS), totp.created_at) if totp else None,
        keys=tuple(
            SecurityKey(key.pk, key.name, key.synced, key.created_at, key.last_used_at)
            for key in Passkey.objects.filter(user__username=username).order_by("pk")
        ),
        recovery_left=sheet.left if sheet else 0,
        recovery_made_at=sheet.made_at if sheet else None,
    )


@dataclass(frozen=True)
class SessionRow:
    """An open session as a page shows it; `key` is the name of its row, not its cookie."""

    key: str
    began: datetime
    last_seen: datetime
    source: str
    agent: str


def sessions(username: str, *, idle: timedelta, absolute: timedelta) -> tuple[SessionRow, ...]:
    """A person's sessions that are still open, the newest first."""
    now = timezone.now()
    rows = StaffSession.objects.filter(
        person__username=username, expire_date__gt=now, last_seen__gt=now - idle, began__gt=now - absolute
    )
    return tuple(
        SessionRow(row.session_key, row.began, row.last_seen, row.source, row.agent)
        for row in rows.order_by("-last_seen", "session_key")
        if row.began is not None and row.last_seen is not None
    )


@dataclass(frozen=True)
class ResetRow:
    """An act of two that takes somebody's factors away."""

    person: str
    reason: str
    asked_by: str
    asked_at: datetime
    agreed_by: str
    closed_at: datetime | None


def resets_waiting() -> tuple[ResetRow, ...]:
    """What one person asked for and no second one has agreed to yet."""
    return _resets(_waiting())


def reset_waiting(username: str) -> ResetRow | None:
    """The one about this person, if there is one."""
    return next(iter(_resets(_waiting().filter(person=username))), None)


def resets_untold(username: str) -> tuple[ResetRow, ...]:
    """What was done to this person's factors and not shown to them yet."""
    return _resets(FactorReset.objects.filter(person=username, state=FactorReset.State.DONE, told_at=None))


def _waiting() -> QuerySet[FactorReset]:
    return FactorReset.objects.filter(state=FactorReset.State.ASKED, asked_at__gt=timezone.now() - rules.RESET_OPEN_FOR)


def _resets(found: QuerySet[FactorReset]) -> tuple[ResetRow, ...]:
    return tuple(
        ResetRow(row.person, row.reason, row.asked_by, row.asked_at, row.agreed_by, row.closed_at)
        for row in found.order_by("asked_at", "pk")
    )


def is_first_boot() -> bool:
    """Whether this machine has never had anybody of its own: whom a directory brings cannot run it."""
    return not (
        Person.objects.filter(directory_id="").exists() or FirstBoot.objects.filter(done_at__isnull=False).exists()
    )


def first_person_at() -> datetime | None:
    """When this machine came to its first person; None while it has nobody."""
    return Person.objects.order_by("created_at").values_list("created_at", flat=True).first()


def permissions_of(username: str) -> frozenset[Permission]:
    """What this person may do now; nothing for an unknown or inactive one."""
    roles = Person.objects.filter(username=username, is_active=True).values_list("roles", flat=True).first()
    return granted(roles or ())


def holders(permission: Permission) -> tuple[str, ...]:
    """The active people who hold a permission, by name."""
    return tuple(p.username for p in Person.objects.filter(is_active=True).order_by("username") if p.may(permission))


def roster() -> tuple[RosterEntry, ...]:
    """Every signing key ever enrolled: what somebody approved while in office stays approved after they leave."""
    return tuple(
        RosterEntry(key.person, key.key_id, bytes(key.public_key), bytes(key.mac))
        for key in SigningKey.objects.order_by("pk")
    )
