"""The signed file: TUF metadata, manifest, single-pass copy, content checks; and, on the build side, packing.

A *bundle* is what lies on a medium; a *release* is our record of one (`inference.releases`). Everything here is bytes
and files, without Django and without a network.

    discover(media_root)            what a medium seems to hold
    receive(medium, bundle=..., ..) copy once, verify, look inside; BundleError with a stable code, or Received
    install(quarantine, store, ..)  atomically, under the release's digest
    control_tokens(document)        what a tokenizer.json reads as more than text
    initial(root)                   the trust state of a box that has imported nothing yet
"""

from __future__ import annotations

from provisioning.bundle.discover import Found, discover
from provisioning.bundle.errors import BundleError
from provisioning.bundle.facts import FileFact, release_digest
from provisioning.bundle.install import install
from provisioning.bundle.manifest import Manifest
from provisioning.bundle.receive import Received, receive
from provisioning.bundle.tokenizer import control_tokens
from provisioning.bundle.trust import TrustState, initial
from provisioning.bundle.verdict import Check, Verdict

__all__ = [
    "BundleError",
    "Check",
    "FileFact",
    "Found",
    "Manifest",
    "Received",
    "TrustState",
    "Verdict",
    "control_tokens",
    "discover",
    "initial",
    "install",
    "receive",
    "release_digest",
]
