"""Staff, their second factors and sessions, and the keys they sign changes with."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django_otp.models import Device

from appliance.accounts import rules
from appliance.accounts.permissions import (
    PHI_ROLES,
    Permission,
    Role,
    conflicting_roles,
    granted,
    may_hold_phi,
    roles_without_phi,
)


def _roles_apart() -> Q:
    together = Q()
    for one, other in conflicting_roles():
        together |= Q(roles__contains=[one.value, other.value])
    return ~together


def _phi_apart() -> Q:
    needs = Q(roles__overlap=sorted(role.value for role in PHI_ROLES))
    bars = Q(roles__overlap=[role.value for role in roles_without_phi()])
    return Q(phi_view=False) | (needs & ~bars)


class Person(AbstractBaseUser):  # type: ignore[django-manager-missing]  # from django-otp, untyped
    """Somebody who may sign in. There is no superuser: rights come from roles alone."""

    username = models.CharField(max_length=32, unique=True)
    display_name = models.CharField(max_length=120)
    roles = ArrayField(
        models.CharField(max_length=32, choices=[(r.value, r.label) for r in Role]), default=list, blank=True
    )
    # No role carries this: see `permissions.PhiRight`.
    phi_view = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    # The end of somebody who is let in for a time; every request looks at it. None for everybody else.
    active_until = models.DateTimeField(null=True, blank=True)
    # The directory's own id for somebody whose password it keeps; empty for people of this machine alone.
    directory_id = models.CharField(max_length=120, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    failures = models.PositiveIntegerField(default=0)
    locked_until = models.DateTimeField(null=True, blank=True)

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = BaseUserManager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="accounts_person_duties_apart", condition=_roles_apart()),
            models.CheckConstraint(name="accounts_person_phi_apart", condition=_phi_apart()),
            # An unknown role grants nothing today and could grant something to whoever names one tomorrow.
            models.CheckConstraint(
                name="accounts_person_known_roles",
                condition=Q(roles__contained_by=sorted(role.value for role in Role)),
            ),
            models.CheckConstraint(
                name="accounts_person_sealed_has_an_end",
                condition=~Q(username=rules.SEALED_ACCOUNT) | Q(is_active=False) | Q(active_until__isnull=False),
            ),
            models.UniqueConstraint(
                name="accounts_person_once_in_directory", fields=["directory_id"], condition=~Q(directory_id="")
            ),
            models.CheckConstraint(
                name="accounts_person_directory_keeps_password",
                condition=Q(directory_id="")
                | (
                    Q(password__startswith=UNUSABLE_PASSWORD_PREFIX)
                    & ~Q(roles__overlap=sorted(role.value for role in rules.NEVER_FROM_DIRECTORY))
                ),
            ),
            models.CheckConstraint(
                name="accounts_person_username", condition=Q(username__regex=r"^[a-z][a-z0-9._-]{1,31}$")
            ),
        ]

    @property
    def is_in_use(self) -> bool:
        """Whether this person may be let in at this moment."""
        return self.is_active and (self.active_until is None or timezone.now() < self.active_until)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What this person's roles allow; nothing when inactive."""
        return granted(self.roles) if self.is_in_use else frozenset()

    def may(self, permission: Permission) -> bool:
        """Whether this person holds the permission now."""
        return permission in self.permissions

    @property
    def may_see_patients(self) -> bool:
        """Whether this person may be shown patients' text; the permission of the page is asked beside it."""
        return self.is_in_use and self.phi_view and may_hold_phi(self.roles)


class TotpDevice(Device):  # type: ignore[misc]  # django-otp ships no types
    """A one-time-code generator. Unlike the stock one its seed is sealed, and a step counts once."""

    kind = "totp"

    sealed_seed = models.BinaryField()
    last_step = models.BigIntegerField(default=0)
    drift = models.SmallIntegerField(default=0)
    """How far the generator's clock is ahead of ours, in steps; negative when behind."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="accounts_totp_drift_bounded",
                condition=Q(drift__range=(-rules.TOTP_RESYNC_STEPS, rules.TOTP_RESYNC_STEPS + 1)),
            ),
            models.UniqueConstraint(name="accounts_totp_one_confirmed", fields=["user"], condition=Q(confirmed=True)),
        ]

    def verify_token(self, token: str) -> bool:
        """Refuse: codes are checked by `services.check_code` alone, which counts failures."""
        del token
        return False


class RecoverySheet(Device):  # type: ignore[misc]  # django-otp ships no types
    """A person's recovery codes. One row for each person, whatever was on it before."""

    kind = "recovery_code"

    made_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="accounts_recovery_one_sheet", fields=["user"])]

    def verify_token(self, token: str) -> bool:
        """Refuse: codes are used by `services.recovery` alone, which counts failures."""
        del token
        return False


class RecoveryCode(models.Model):
    """One code of a sheet, hashed under a key outside the database and bound to its person."""

    sheet = models.ForeignKey(RecoverySheet, on_delete=models.CASCADE, related_name="codes")
    digest = models.BinaryField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="accounts_recovery_code_once", fields=["sheet", "digest"])]


class Passkey(Device):  # type: ignore[misc]  # django-otp ships no types
    """A security key or passkey (WebAuthn). Its public key is sealed to this row, so that one written by hand opens nothing."""

    kind = "security_key"

    credential_id = models.BinaryField(unique=True, max_length=1023)
    sealed_key = models.BinaryField()
    sign_count = models.BigIntegerField(default=0)
    transports = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    synced = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(name="accounts_passkey_counts_up", condition=Q(sign_count__gte=0))]

    def verify_token(self, token: str) -> bool:
        """Refuse: answers of keys are checked by `services.passkeys` alone."""
        del token
        return False


class Challenge(models.Model):
    """What a security key is asked to sign: for one session and one purpose, gone when it was used."""

    session = models.CharField(max_length=40)
    purpose = models.CharField(max_length=16)
    challenge = models.BinaryField()
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="accounts_challenge_one_per_purpose", fields=["session", "purpose"]),
        ]


class StaffSession(AbstractBaseSession):
    """A session, known by a keyed hash of its cookie, with every column under one signature (see `sessions`)."""

    person = models.ForeignKey(Person, null=True, on_delete=models.CASCADE, related_name="+")
    """Nobody until both factors were shown."""
    began = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)
    source = models.CharField(max_length=45, blank=True)
    agent = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="accounts_session_person_since", condition=Q(person__isnull=True) | Q(began__isnull=False)
            ),
        ]


class NetworkFailures(models.Model):
    """Sign-ins that failed from one network, in a window that began at `since`."""

    network = models.CharField(max_length=64, unique=True)
    failures = models.PositiveIntegerField(default=0)
    since = models.DateTimeField()


class FactorReset(models.Model):
    """Two people take a third one's second factors away, because they were lost. Names as text: it outlives accounts."""

    class State(models.TextChoices):
        """Where it stands."""

        ASKED = "asked"
        DONE = "done"
        WITHDRAWN = "withdrawn"

    person = models.CharField(max_length=32)
    reason = models.CharField(max_length=200)
    state = models.CharField(max_length=16, choices=State.choices, default=State.ASKED)
    asked_by = models.CharField(max_length=32)
    asked_at = models.DateTimeField()
    agreed_by = models.CharField(max_length=32, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="accounts_reset_one_open", fields=["person"], condition=Q(state="asked")),
            models.CheckConstraint(name="accounts_reset_state", condition=Q(state__in=["asked", "done", "withdrawn"])),
            models.CheckConstraint(
                name="accounts_reset_by_two_others",
                condition=~Q(asked_by=F("person"))
                & ~Q(agreed_by=F("person"))
                & ~Q(agreed_by=F("asked_by"))
                & (~Q(state="done") | ~Q(agreed_by="")),
            ),
        ]


class SigningKey(models.Model):
    """An approver's Ed25519 key: the private half opens only with its owner's password, the public half is MACed."""

    person = models.CharField(max_length=32)
    key_id = models.CharField(max_length=16, unique=True)
    public_key = models.BinaryField()
    mac = models.BinaryField()
    sealed_private_key = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="accounts_signing_key_one_current", fields=["person"], condition=Q(retired_at__isnull=True)
            ),
        ]


class Enrolment(models.Model):
    """A code, given by hand, with which somebody who has no second factor yet enrols one; gone once it was used."""

    person = models.OneToOneField(Person, on_delete=models.CASCADE, primary_key=True, related_name="+")
    digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField()


class FirstBoot(models.Model):
    """The one row about how this machine came to its first people. Once `done_at` is set it stays as it is."""

    number = models.PositiveSmallIntegerField(primary_key=True, default=1)
    secret_digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    # The one sitting that may finish; each right secret begins a new one and ends the one before.
    sitting_digest = models.CharField(max_length=64, blank=True, default="")
    sealed_seeds = models.BinaryField(default=b"")
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="accounts_first_boot_one_row", condition=Q(number=1)),
            models.CheckConstraint(
                name="accounts_first_boot_done_keeps_nothing",
                condition=Q(done_at__isnull=True) | Q(secret_digest="", sitting_digest="", sealed_seeds=b""),
            ),
        ]
