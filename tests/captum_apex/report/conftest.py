"""A browser for the tests of the page."""

import pytest

from tests.browser import chromium, complaints, requests


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.set_script_timeout(60)  # s; a long sound is cut in a while
        yield browser


@pytest.fixture
def browser(running):
    """The browser, and after the test: no complaint in its console, no request that left the page."""
    complaints(running), requests(running)
    yield running
    assert complaints(running) == []
    assert requests(running) == []
