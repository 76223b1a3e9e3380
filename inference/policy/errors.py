"""Refusals of policy. A code is stable: the client's answer, the audit row and the documentation use the same one."""

from __future__ import annotations


class PolicyRefusal(Exception):
    """The rights, the purpose or the task do not allow this request. Anything else raised here is a bug."""

    def __init__(self, code: str, message: str, *, param: str | None = None, end_user: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.param = param
        self.end_user = end_user
        """For the record: on whose behalf it was asked, where that matters more than the refusal."""


class DraftRefusedError(PolicyRefusal):
    """What the model wrote may not leave. The message says which check it failed, never what it held."""

    def __init__(self, message: str) -> None:
        super().__init__("draft_refused", message)
