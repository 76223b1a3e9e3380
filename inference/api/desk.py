"""What the door works with: the house's standing parts, the tally of refusals, the bell. One per worker process."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from appliance.audit.channel import Channel
from inference.admission import rules
from inference.admission.lanes import Lanes
from inference.admission.standing import Standing
from inference.api.bell import Bell
from inference.api.refusals import Refusals
from inference.engines.vllm import Vllm
from inference.queue.channel import Rows
from inference.serve import House, salt
from provisioning.site_config import Site


@dataclass(frozen=True)
class Desk:
    """Everything an exchange may use."""

    house: House
    standing: Standing
    channel: Channel
    refusals: Refusals
    bell: Bell
    rows: Rows
    allowed_hosts: frozenset[str]

    @classmethod
    async def open(cls, conninfo: str) -> Desk:
        """Begin. Nothing here waits for the database: until it is there, requests are refused."""
        site: Site = settings.SITE
        standing = Standing(conninfo)
        await standing.refresh()
        standing.keep()
        channel = await Channel.open(conninfo, writer="lan-api")
        refusals = Refusals(channel)
        refusals.start()
        house = House(
            standing=standing,
            lanes=_lanes(site, standing),
            book=channel,
            engine=Vllm(socket_of=site.engine_socket, api_key=site.secret("engine-api-key").decode("ascii")),
            salt=salt(site.secret("audit-hmac")),
        )
        return cls(
            house=house,
            standing=standing,
            channel=channel,
            refusals=refusals,
            bell=Bell(),
            rows=Rows(threads=4, per_client=2, lock_s=1.0),
            allowed_hosts=frozenset(host.lower() for host in site.api.allowed_hosts),
        )

    async def close(self) -> None:
        """End: what is queued for the log is written first."""
        await self.refusals.close()
        await self.channel.close()
        await self.standing.close()
        await self.house.engine.close()
        self.bell.close()
        self.rows.close()


def _lanes(site: Site, standing: Standing) -> Lanes:
    """The share of the engine that is this process's."""
    limits = rules.Limits.share(
        engine_slots=site.engine.max_num_seqs, context=site.engine.max_model_len, processes=site.api.workers
    )
    return Lanes(limits, pressure=standing.pressure)
