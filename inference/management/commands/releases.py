"""List the releases on this box and what serves."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from inference.releases import selectors


class Command(BaseCommand):
    """`manage.py releases`."""

    help = "List the releases on this box, and what serves now."

    def handle(self, *args: Any, **options: Any) -> None:
        for item in selectors.releases():
            self.stdout.write(
                f"{item.digest}  {item.name} {item.version}  {item.state}  received by {item.received_by}"
            )
        now = selectors.serving()
        if now is None:
            self.stdout.write("nothing serves")
            return
        state = f"NOT ANSWERING: {now.degraded_reason}" if now.degraded_since else "well"
        self.stdout.write(f"serving: {now.name} {now.version} in slot {now.slot}, change {now.change_id}, {state}")
