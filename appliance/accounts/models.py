"""Staff, their second factor, and the keys they sign changes with."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django_otp.models import Device

from appliance.accounts.permissions import (
    PHI_ROLES,
    Permission,
    Role,
    conflicting_roles,
    granted,
    may_hold_phi,
    roles_without_phi,
)
from appliance.accounts.rules import NEVER_FROM_DIRECTORY, SEALED_ACCOUNT


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
                condition=~Q(username=SEALED_ACCOUNT) | Q(is_active=False) | Q(active_until__isnull=False),
            ),
            models.UniqueConstraint(
                name="accounts_person_once_in_directory", fields=["directory_id"], condition=~Q(directory_id="")
            ),
            models.CheckConstraint(
                name="accounts_person_directory_keeps_password",
                condition=Q(directory_id="")
                | (
                    Q(password__startswith=UNUSABLE_PASSWORD_PREFIX)
                    & ~Q(roles__overlap=sorted(role.value for role in NEVER_FROM_DIRECTORY))
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

    sealed_seed = models.BinaryField()
    last_step = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="accounts_totp_one_confirmed", fields=["user"], condition=Q(confirmed=True)),
        ]

    def verify_token(self, token: str) -> bool:
        """Refuse: codes are checked by `services.check_code` alone, which counts failures."""
        del token
        return False


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
