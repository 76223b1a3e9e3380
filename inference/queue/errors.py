"""Refusals of durable work."""

from __future__ import annotations


class QueueError(Exception):
    """Base of the refusals here. Anything else raised in this app is a bug."""

    def __init__(self, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class JobNotFoundError(QueueError):
    """No job by that id, or not this client's: the answer is the same."""

    def __init__(self) -> None:
        super().__init__("job_not_found", "there is no job by that id")


class IdempotencyConflictError(QueueError):
    """The same Idempotency-Key came with another body."""

    def __init__(self) -> None:
        super().__init__("idempotency_conflict", "that Idempotency-Key was used with another body")


class TooManyJobsError(QueueError):
    """The client has as many unfinished jobs as it may."""


class JobFinishedError(QueueError):
    """It has ended, so it cannot be cancelled."""


class JobUnfinishedError(QueueError):
    """It cannot be deleted: it has not ended, or it is a line of a batch."""


class FileNotStoredError(QueueError):
    """No file by that id, or not this client's: the answer is the same."""

    def __init__(self) -> None:
        super().__init__("file_not_found", "there is no file by that id")


class FileInUseError(QueueError):
    """A batch has been accepted and not yet made of it."""


class StorageFullError(QueueError):
    """The client has stored as much as it may."""


class BatchNotFoundError(QueueError):
    """No batch by that id, or not this client's: the answer is the same."""

    def __init__(self) -> None:
        super().__init__("batch_not_found", "there is no batch by that id")


class BatchError(QueueError):
    """The batch has ended and cannot be cancelled."""


class PauseError(QueueError):
    """The lane is paused already, or is not."""


class WebhookError(QueueError):
    """That address is none this machine may speak to, or there is no such webhook."""


class LostLeaseError(Exception):
    """The attempt is no longer ours: another worker, a cancel or the sweep has closed it. Stop touching it."""
