"""The stage of Flow A's tests: a publisher with two keys, a medium, a box of its own folders, and the cast.

Everything is arranged through the product's own services; the bundles are genuine in every respect but size.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from appliance.changes import services as changes
from inference.releases import selectors, services
from provisioning.site_config import Site
from tests.appliance import cast
from tests.simulators.bundle_maker import NAME, BundleMaker

BUNDLE = NAME


@dataclass
class Stage:
    """What the tests of this folder do to a box, in their words."""

    site: Site
    scratch: Path
    _people: dict[str, cast.Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The publisher's root is the one this box was delivered with."""
        self.publisher = BundleMaker(self.scratch)
        self.site.trust_root.write_bytes(self.publisher.root)

    def medium(self, version: int) -> Path:
        """A medium with this version of the bundle, signed by both publishers when it is first asked for."""
        medium = self.site.media_roots[0] / f"stick-{version}"
        if not medium.exists():
            self.publisher.manifest["version"] = version
            self.publisher.sign()
            shutil.copytree(self.publisher.medium, medium)
        return medium

    def start_import(self, version: int) -> int:
        """Press the button for this version; nothing is done yet."""
        return services.start_import(actor="alice", media=str(self.medium(version)), bundle=BUNDLE)

    def run_import(self, version: int) -> int:
        """Import this version, whatever comes of it; returns the import's number."""
        import_id = self.start_import(version)
        services.run_import(import_id)
        return import_id

    def receive(self, version: int) -> str:
        """Import this version, which must succeed; returns the release's digest."""
        done = selectors.import_(self.run_import(version))
        assert done.state == "done", f"{done.code}: {done.message}"
        return done.release_digest

    def approve(self, username: str, change_id: int) -> None:
        """One person's approval, with both factors."""
        if username not in self._people:
            self._people[username] = cast.member(username)
        member = self._people[username]
        cast.forget_used_codes()
        changes.approve(actor=username, change_id=change_id, password=member.password, code=member.code())

    def activate(self, digest: str) -> int:
        """Alice proposes, bob and carol approve; returns the deployment that starts."""
        change_id = services.propose_activation(actor="alice", digest=digest, reason="the next version")
        for username in ("bob", "carol"):
            self.approve(username, change_id)
        return next(item.id for item in selectors.deployments() if item.change_id == change_id)

    def activate_with(self, people: dict[str, cast.Member], digest: str) -> int:
        """The same, where the test has made the cast itself."""
        self._people.update(people)
        return self.activate(digest)

    def state(self, deployment: int) -> str:
        return next(item.state for item in selectors.deployments() if item.id == deployment)

    def slot(self, deployment: int) -> str:
        return next(item.slot for item in selectors.deployments() if item.id == deployment)
