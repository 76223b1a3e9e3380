"""Refusals about people. Sign-in has one text for every reason, so that it tells nobody which names exist."""

from __future__ import annotations


class AccountError(Exception):
    """Base of every refusal in this app. Anything else raised here is a bug."""

    code = "account_refused"


class SignInRefusedError(AccountError):
    """Wrong name, password or code, or a locked or inactive account: deliberately not said which."""

    code = "sign_in_refused"

    def __init__(self) -> None:
        super().__init__(
            "That name, password or code is not right, or the account is locked. "
            "Wait 15 minutes, or ask an administrator."
        )


class PersonError(AccountError):
    """A person cannot be created or changed as asked."""

    code = "person_refused"


class RoleConflictError(AccountError):
    """The roles together would let one person both propose and approve."""

    code = "role_conflict"


class PhiRightError(AccountError):
    """The right to be shown patients' text cannot be given to this person by this person."""

    code = "phi_right_refused"


class DirectoryUnavailableError(AccountError):
    """The directory gave no answer that can be trusted: away, slow, not proved by its certificate, or half an answer."""

    code = "directory_unavailable"


class ProviderRefusedError(AccountError):
    """The identity provider's answer does not prove who this is. `reason` is for the record; the person reads one text."""

    code = "provider_refused"

    def __init__(self, reason: str) -> None:
        super().__init__("The identity provider's answer was not accepted. Start again; if it stays so, tell IT.")
        self.reason = reason


class DirectoryRolesError(AccountError):
    """The site file gives a role to a group that no group can have."""

    code = "directory_roles"


class SigningKeyError(AccountError):
    """The person has no signing key, or the password does not open it."""

    code = "signing_key_unavailable"


class FactorError(AccountError):
    """A second factor cannot be added or taken away as asked."""

    code = "factor_refused"


class PasskeyRefusedError(FactorError):
    """What a security key answered does not count."""

    code = "security_key_refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__("The security key's answer was not accepted. Open the page again and repeat the step.")


class ResetError(AccountError):
    """Somebody's second factors cannot be taken away as asked."""

    code = "reset_refused"


class EnrolmentError(AccountError):
    """No code to enrol with can be given to this person, or it is not this code."""

    code = "enrolment_refused"


class FirstBootError(AccountError):
    """The first people cannot be made as asked; nothing was made."""

    code = "first_boot_refused"


class FirstBootOverError(FirstBootError):
    """There are people: a machine has its first two once and never again."""

    code = "first_boot_over"

    def __init__(self) -> None:
        super().__init__("This machine already has its people.")


class FirstBootSecretError(FirstBootError):
    """Wrong, used up or too old, or begun again elsewhere: deliberately not said which."""

    code = "first_boot_secret"

    def __init__(self) -> None:
        super().__init__(
            "That secret is not right, or it is used up. Somebody with root on the machine can make a new one: "
            "manage.py first_boot."
        )
