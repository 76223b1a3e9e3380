"""Releases and imports as lists that a page narrows, orders and pages; the database does all three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import CharField, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from inference.releases.models import Deployment, Import, Release
from inference.releases.selectors.views import ImportView, ReleaseView, import_view, release_view


def releases_listed(
    *, text: str = "", state: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[ReleaseView, ...], int]:
    """Some releases, narrowed and ordered, and how many there are, counted to `most` + 1."""
    newest = Deployment.objects.filter(release=OuterRef("pk")).order_by("-id").values("state")[:1]
    rows = Release.objects.annotate(
        standing=Coalesce(Subquery(newest), Value("received"), output_field=CharField())
    ).defer("manifest", "verdict")
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(title__icontains=text) | Q(digest__startswith=text.lower()))
    if state == "withdrawn":
        rows = rows.filter(withdrawn_at__isnull=False)
    elif state:
        rows = rows.filter(standing=state, withdrawn_at__isnull=True)
    keys = {
        "name": "name", "version": "version", "state": "standing", "family": "family", "received": "received_at",
    }  # fmt: skip
    found = _slice(rows, keys, order, ("-version", "-pk"), offset, limit)
    return tuple(release_view(row, {row.pk: row.standing}) for row in found), _count(rows, most)


def imports_listed(
    *, bundle: str = "", state: str = "", by: str = "", order: str, offset: int, limit: int, most: int
) -> tuple[tuple[ImportView, ...], int]:
    """Some imports, narrowed and ordered, and how many there are, counted to `most` + 1."""
    rows = Import.objects.select_related("release").defer("release__files", "release__manifest", "release__verdict")
    if bundle:
        rows = rows.filter(bundle__icontains=bundle)
    if state:
        rows = rows.filter(state=state)
    if by:
        rows = rows.filter(actor=by)
    keys = {"bundle": "bundle", "state": "state", "by": "actor", "started": "pk"}
    return tuple(map(import_view, _slice(rows, keys, order, ("-pk",), offset, limit))), _count(rows, most)


def live_imports() -> tuple[ImportView, ...]:
    """The imports that may still change."""
    return tuple(import_view(row) for row in Import.objects.filter(state__in=Import.LIVE).select_related("release"))


def never_proposed() -> tuple[ReleaseView, ...]:
    """The releases that are here, were not withdrawn, and have never been started."""
    rows = Release.objects.filter(withdrawn_at=None, deployments=None).defer("manifest", "verdict")
    return tuple(release_view(row, {}) for row in rows)


def received(versions: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    """Those of these names and versions that are on this box already."""
    wanted = Q(pk__in=[])
    for name, version in versions:
        wanted |= Q(name=name, version=version)
    return frozenset(Release.objects.filter(wanted).values_list("name", "version"))


def _slice(
    rows: QuerySet[Any], keys: Mapping[str, str], order: str, then: Sequence[str], offset: int, limit: int
) -> list[Any]:
    """These rows of the order. `then` puts equal ones in one order too, so that each is on one page and no other."""
    key = F(keys[order.removeprefix("-")])
    by = key.desc() if order.startswith("-") else key.asc()
    return list(rows.order_by(by, *then)[offset : offset + limit])


def _count(rows: QuerySet[Any], most: int) -> int:
    return rows.order_by()[: most + 1].count()
