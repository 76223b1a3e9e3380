"""The examples are run against the real door: the same fixtures as in tests/inference/api."""

from tests.inference.api.conftest import *  # noqa: F403 - fixtures are found by their names
