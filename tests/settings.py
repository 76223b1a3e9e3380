"""The product's settings over this test run's private site. Nothing of the product is switched off."""

from tests import private_site

private_site.enter()

from appliance.settings import *  # noqa: E402, F403 - the site must exist first
from appliance.settings import DATABASES  # noqa: E402 - as above

# Same name: programs that a test starts read the same site file, so they see the same database.
DATABASES["default"]["TEST"] = {"NAME": DATABASES["default"]["NAME"]}
