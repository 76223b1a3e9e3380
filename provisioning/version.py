"""The version of this appliance, for whoever must compare with it before Django exists."""

from __future__ import annotations

VERSION = "0.1.0"
