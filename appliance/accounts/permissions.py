"""Who may do what: every permission, every role, and the duties that must stay apart.

Pages name a Permission on the line above them and the menu names the same member. Rules such as "not the proposer" are
not permissions; they live with the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Permission(StrEnum):
    """`<resource>:<verb>`, alphabetical."""

    ALERT_ACKNOWLEDGE = "alert:acknowledge"
    ALERT_VIEW = "alert:view"
    AUDIT_VERIFY = "audit:verify"
    AUDIT_VIEW = "audit:view"
    CHANGE_APPROVE = "change:approve"
    CHANGE_PROPOSE = "change:propose"
    CHANGE_VIEW = "change:view"
    CLIENT_MANAGE = "client:manage"
    CLIENT_VIEW = "client:view"
    GPU_VIEW = "gpu:view"
    OVERVIEW_VIEW = "overview:view"
    PLAYGROUND_USE = "playground:use"
    QUEUE_MANAGE = "queue:manage"
    QUEUE_VIEW = "queue:view"
    RELEASE_IMPORT = "release:import"
    RELEASE_VIEW = "release:view"
    STAFF_MANAGE = "staff:manage"
    STAFF_VIEW = "staff:view"
    TASK_VIEW = "task:view"


class Role(StrEnum):
    """The hospital's own jobs; a person may have several that do not conflict."""

    APP_OWNER = "app_owner"
    APPROVER = "approver"
    AUDITOR = "auditor"
    IT_ADMIN = "it_admin"
    MODEL_OPERATOR = "model_operator"
    PRIVACY_OFFICER = "privacy_officer"
    SECURITY_OFFICER = "security_officer"
    VIEWER = "viewer"

    @property
    def label(self) -> str:
        """For people."""
        return {"it_admin": "IT administrator", "app_owner": "App owner"}.get(
            self.value, self.value.replace("_", " ").capitalize()
        )


_EVERYONE = frozenset(
    {
        Permission.OVERVIEW_VIEW,
        Permission.RELEASE_VIEW,
        Permission.QUEUE_VIEW,
        Permission.GPU_VIEW,
        Permission.ALERT_VIEW,
        Permission.TASK_VIEW,
    }
)

GRANTS: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: _EVERYONE,
    Role.MODEL_OPERATOR: _EVERYONE
    | {
        Permission.RELEASE_IMPORT,
        Permission.CHANGE_VIEW,
        Permission.CHANGE_PROPOSE,
        Permission.ALERT_ACKNOWLEDGE,
        Permission.PLAYGROUND_USE,
        Permission.QUEUE_MANAGE,
    },
    Role.APPROVER: _EVERYONE | {Permission.CHANGE_VIEW, Permission.CHANGE_APPROVE, Permission.CLIENT_VIEW},
    Role.IT_ADMIN: _EVERYONE
    | {
        Permission.STAFF_VIEW,
        Permission.STAFF_MANAGE,
        Permission.ALERT_ACKNOWLEDGE,
        Permission.CHANGE_VIEW,
        Permission.QUEUE_MANAGE,
    },
    Role.APP_OWNER: _EVERYONE | {Permission.CLIENT_VIEW, Permission.CLIENT_MANAGE, Permission.PLAYGROUND_USE},
    Role.PRIVACY_OFFICER: _EVERYONE
    | {Permission.AUDIT_VIEW, Permission.AUDIT_VERIFY, Permission.CLIENT_VIEW, Permission.CHANGE_VIEW},
    Role.SECURITY_OFFICER: _EVERYONE
    | {
        Permission.AUDIT_VIEW,
        Permission.AUDIT_VERIFY,
        Permission.CLIENT_VIEW,
        Permission.CHANGE_VIEW,
        Permission.STAFF_VIEW,
        Permission.ALERT_ACKNOWLEDGE,
    },
    Role.AUDITOR: _EVERYONE
    | {
        Permission.AUDIT_VIEW,
        Permission.AUDIT_VERIFY,
        Permission.CHANGE_VIEW,
        Permission.CLIENT_VIEW,
        Permission.STAFF_VIEW,
    },
}

# Held by one person, these let that person act alone.
APART: tuple[tuple[Permission, Permission], ...] = (
    (Permission.CHANGE_PROPOSE, Permission.CHANGE_APPROVE),
    (Permission.RELEASE_IMPORT, Permission.CHANGE_APPROVE),
    (Permission.STAFF_MANAGE, Permission.CHANGE_APPROVE),
    (Permission.STAFF_MANAGE, Permission.AUDIT_VIEW),
)


def granted(roles: Iterable[str]) -> frozenset[Permission]:
    """Everything these roles allow together; an unknown role allows nothing."""
    known = {role.value: role for role in Role}
    sets = [GRANTS[known[role]] for role in roles if role in known]
    return frozenset().union(*sets)


def conflict(roles: Iterable[str]) -> tuple[Permission, Permission] | None:
    """The first pair of duties that these roles would put in one hand, or None."""
    held = granted(roles)
    return next((pair for pair in APART if held.issuperset(pair)), None)


def conflicting_roles() -> tuple[tuple[Role, Role], ...]:
    """Every pair of roles that one person may not hold together; the database holds the same list."""
    roles = sorted(Role)
    return tuple((a, b) for i, a in enumerate(roles) for b in roles[i + 1 :] if conflict((a, b)))
