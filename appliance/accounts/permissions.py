"""Who may do what: every permission, every role, and the duties that must stay apart.

Pages name a Permission on the line above them and the menu names the same member. Rules such as "not the proposer" are
not permissions; they live with the changes.

- A permission opens pages. Whether patients' text may be shown on one is a right of its own (`PhiRight`): no role grants
  it, it is given to one person by somebody who does not manage staff, and it is looked at beside a permission, never instead.
- Everything here is data. The database holds the same (see `models.Person`), so that no row can say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """`<resource>:<verb>`, alphabetical."""

    ACCESS_REVIEW = "access:review"
    ACCESS_VIEW = "access:view"
    ALERT_ACKNOWLEDGE = "alert:acknowledge"
    ALERT_SILENCE = "alert:silence"
    ALERT_TEST = "alert:test"
    ALERT_VIEW = "alert:view"
    AUDIT_VERIFY = "audit:verify"
    AUDIT_VIEW = "audit:view"
    CHANGE_APPROVE = "change:approve"
    CHANGE_PROPOSE = "change:propose"
    CHANGE_VIEW = "change:view"
    CLIENT_MANAGE = "client:manage"
    CLIENT_VIEW = "client:view"
    EMERGENCY_OPEN = "emergency:open"
    EMERGENCY_VIEW = "emergency:view"
    GPU_REQUALIFY = "gpu:requalify"
    GPU_VIEW = "gpu:view"
    OVERVIEW_VIEW = "overview:view"
    PHI_GRANT = "phi:grant"
    PLAYGROUND_USE = "playground:use"
    QUEUE_MANAGE = "queue:manage"
    QUEUE_VIEW = "queue:view"
    RELEASE_IMPORT = "release:import"
    RELEASE_VIEW = "release:view"
    STAFF_AGREE = "staff:agree"
    STAFF_MANAGE = "staff:manage"
    STAFF_VIEW = "staff:view"
    TASK_VIEW = "task:view"


class PhiRight(StrEnum):
    """What no role grants: whether a person may be shown what patients' records say."""

    VIEW = "phi:view"


class Role(StrEnum):
    """The hospital's own jobs; a person may have several that do not conflict."""

    APP_OWNER = "app_owner"
    APPROVER = "approver"
    AUDITOR = "auditor"
    CLINICIAN_REVIEWER = "clinician_reviewer"
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
        Permission.ALERT_SILENCE,
        Permission.GPU_REQUALIFY,
        Permission.PLAYGROUND_USE,
        Permission.QUEUE_MANAGE,
    },
    Role.APPROVER: _EVERYONE
    | {
        Permission.CHANGE_VIEW,
        Permission.CHANGE_APPROVE,
        Permission.CLIENT_VIEW,
        Permission.EMERGENCY_OPEN,
        Permission.EMERGENCY_VIEW,
    },
    Role.IT_ADMIN: _EVERYONE
    | {
        Permission.STAFF_VIEW,
        Permission.STAFF_MANAGE,
        Permission.STAFF_AGREE,
        Permission.ALERT_ACKNOWLEDGE,
        Permission.ALERT_SILENCE,
        Permission.ALERT_TEST,
        Permission.CHANGE_VIEW,
        Permission.GPU_REQUALIFY,
        Permission.QUEUE_MANAGE,
    },
    Role.APP_OWNER: _EVERYONE | {Permission.CLIENT_VIEW, Permission.CLIENT_MANAGE, Permission.PLAYGROUND_USE},
    Role.CLINICIAN_REVIEWER: _EVERYONE | {Permission.CHANGE_VIEW, Permission.CLIENT_VIEW},
    Role.PRIVACY_OFFICER: _EVERYONE
    | {
        Permission.AUDIT_VIEW,
        Permission.AUDIT_VERIFY,
        Permission.CLIENT_VIEW,
        Permission.CHANGE_VIEW,
        Permission.PHI_GRANT,
        Permission.STAFF_VIEW,
        Permission.EMERGENCY_OPEN,
        Permission.EMERGENCY_VIEW,
        Permission.ACCESS_REVIEW,
        Permission.ACCESS_VIEW,
    },
    Role.SECURITY_OFFICER: _EVERYONE
    | {
        Permission.AUDIT_VIEW,
        Permission.AUDIT_VERIFY,
        Permission.CLIENT_VIEW,
        Permission.CHANGE_VIEW,
        Permission.STAFF_VIEW,
        Permission.STAFF_AGREE,
        Permission.ALERT_ACKNOWLEDGE,
        Permission.EMERGENCY_OPEN,
        Permission.EMERGENCY_VIEW,
        Permission.ACCESS_REVIEW,
        Permission.ACCESS_VIEW,
    },
    Role.AUDITOR: _EVERYONE
    | {
        Permission.AUDIT_VIEW,
        Permission.AUDIT_VERIFY,
        Permission.CHANGE_VIEW,
        Permission.CLIENT_VIEW,
        Permission.STAFF_VIEW,
        Permission.ACCESS_VIEW,
        Permission.EMERGENCY_VIEW,
    },
}

# Only these may be given the right to be shown patients' text: their work is to judge it.
PHI_ROLES: frozenset[Role] = frozenset({Role.CLINICIAN_REVIEWER})

Right = Permission | PhiRight


@dataclass(frozen=True)
class Apart:
    """Two rights that no one person may hold together, and what that person could do alone."""

    one: Right
    other: Right
    why: str

    @property
    def pair(self) -> frozenset[Right]:
        """The two, in no order."""
        return frozenset({self.one, self.other})


# The matrix of duties. A row is added here and nowhere else: rules, pages, the database and the tests read it.
APART: tuple[Apart, ...] = (
    Apart(Permission.CHANGE_PROPOSE, Permission.CHANGE_APPROVE, "could vote on what they proposed"),
    Apart(Permission.RELEASE_IMPORT, Permission.CHANGE_APPROVE, "could bring in a model and vote for it"),
    Apart(Permission.STAFF_MANAGE, Permission.CHANGE_APPROVE, "could make the second approver"),
    Apart(Permission.STAFF_MANAGE, Permission.AUDIT_VIEW, "could watch what is known of their own acts"),
    Apart(Permission.STAFF_MANAGE, Permission.PHI_GRANT, "could make an account and open patients' text to it"),
    Apart(Permission.STAFF_MANAGE, Permission.ACCESS_REVIEW, "could give access and then find it in order"),
    Apart(Permission.STAFF_MANAGE, Permission.EMERGENCY_OPEN, "could act under a name that is nobody's"),
    Apart(Permission.STAFF_MANAGE, PhiRight.VIEW, "would see patients' text while running the machine"),
    Apart(Permission.PHI_GRANT, PhiRight.VIEW, "would have opened patients' text to a colleague and to themselves"),
)


def granted(roles: Iterable[str]) -> frozenset[Permission]:
    """Everything these roles allow together; an unknown role allows nothing."""
    known = {role.value: role for role in Role}
    sets = [GRANTS[known[role]] for role in roles if role in known]
    return frozenset().union(*sets)


def conflict(roles: Iterable[str], *, phi_view: bool = False) -> Apart | None:
    """The first pair of duties that these roles would put in one hand, or None."""
    held: frozenset[Right] = granted(roles) | ({PhiRight.VIEW} if phi_view else frozenset())
    return next((apart for apart in APART if held >= apart.pair), None)


def may_hold_phi(roles: Iterable[str]) -> bool:
    """Whether somebody with these roles may be given the right to be shown patients' text."""
    held = frozenset(roles)
    return bool(held & PHI_ROLES) and conflict(held, phi_view=True) is None


def conflicting_roles() -> tuple[tuple[Role, Role], ...]:
    """Every pair of roles that one person may not hold together; the database holds the same list."""
    roles = sorted(Role)
    return tuple((a, b) for i, a in enumerate(roles) for b in roles[i + 1 :] if conflict((a, b)))


def roles_without_phi() -> tuple[Role, ...]:
    """Every role beside which nobody may be shown patients' text; the database holds the same list."""
    return tuple(role for role in sorted(Role) if conflict((role,), phi_view=True))
