"""A publisher of the evaluation bundle: the real model's files under any version number, signed by two keys of this run.

The keys that signed the bundle in offline-bundles/ exist no more, on purpose. This one makes the root a box trusts and
every medium that box is given: `medium(2)` is a genuine newer bundle, `medium(1)` made after it a genuine older one.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from provisioning.bundle.pack import Publisher, Repository, new_root
from provisioning.evaluation.run import BUNDLE_FOLDER
from provisioning.evaluation.site_file import REPOSITORY

BUNDLE = "isoward-clinical-demo"
SOURCE = REPOSITORY / "offline-bundles" / "evaluation" / "targets" / BUNDLE
LIFETIME = timedelta(days=30)


class EvaluationPublisher:
    """Two people with a key each, and the media they have filled."""

    def __init__(self, folder: Path) -> None:
        self.media = folder / "media"
        self.trust_root = folder / "root.json"
        self._folder = folder
        self._people = [Publisher.generate(f"publisher-{number}") for number in (1, 2)]
        self._repository = Repository(folder / "repository")
        root = new_root([person.key for person in self._people], expires=_now() + LIFETIME)
        self._repository.create(root)
        self.media.mkdir(parents=True)
        self.medium(1, name=BUNDLE_FOLDER)
        shutil.copyfile(folder / "repository" / "metadata" / "1.root.json", self.trust_root)

    def medium(self, version: int, *, name: str = "") -> Path:
        """A new medium with the bundle as this version, listed and signed now."""
        files = self._folder / "files"
        shutil.copytree(SOURCE, files)
        manifest = json.loads((files / "manifest.json").read_text(encoding="utf-8"))
        manifest["version"] = version
        (files / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        self._repository.add(BUNDLE, files, now=_now(), expires=_now() + LIFETIME)
        for person in self._people:
            self._repository.sign(person)
        shutil.rmtree(files)
        medium = self.media / (name or f"stick-{len(list(self.media.iterdir()))}")
        shutil.copytree(self._folder / "repository", medium)
        return medium


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
