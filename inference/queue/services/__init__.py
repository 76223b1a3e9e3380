"""Every write of the queue, one file per kind of work."""

from inference.queue.services.batches import (
    AcceptedBatch,
    accept_batch,
    cancel_batch,
    delete_output,
    end_batches,
    expand_batch,
)
from inference.queue.services.files import add_piece, begin_file, delete_file, discard_upload, finish_file
from inference.queue.services.jobs import (
    Accepted,
    Claim,
    cancel,
    claim,
    close_attempt,
    delete,
    open_attempt,
    put_back,
    refuse,
    renew,
    submit,
)
from inference.queue.services.slices import Held, Kept, Step, claim_lines, put_back_lines, renew_lines, settle
from inference.queue.services.sweeps import close_unanswered, forget, sweep, unheard_batches, unread_batches

__all__ = [
    "Accepted",
    "AcceptedBatch",
    "Claim",
    "Held",
    "Kept",
    "Step",
    "accept_batch",
    "add_piece",
    "begin_file",
    "cancel",
    "cancel_batch",
    "claim",
    "claim_lines",
    "close_attempt",
    "close_unanswered",
    "delete",
    "delete_file",
    "delete_output",
    "discard_upload",
    "end_batches",
    "expand_batch",
    "finish_file",
    "forget",
    "open_attempt",
    "put_back",
    "put_back_lines",
    "refuse",
    "renew",
    "renew_lines",
    "settle",
    "submit",
    "sweep",
    "unheard_batches",
    "unread_batches",
]
