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
