"""A headless Chromium for tests of pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    "--autoplay-policy=no-user-gesture-required",
)
INSTALL_SECONDS = 300


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with an empty profile; the test is skipped where no browser is installed or can be installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install 'captum-apex[test]'")
    from selenium.webdriver.chrome.service import Service

    program, driver = _programs()
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Any, page: Path, *, width: int = 1280, dark: bool = False, media: str = "screen") -> None:
    """Opens a file from disk on a screen of this width; an empty `media` is the screen until the page is printed."""
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get("about:blank")  # so that the same file with another fragment is loaded again
    browser.get(page.as_uri())


def wait_until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Returns as soon as the condition holds; fails if it does not hold within some seconds."""
    from selenium.common.exceptions import StaleElementReferenceException

    def holds() -> bool:
        try:
            return bool(condition())
        except StaleElementReferenceException:  # the page replaced what the condition looks at
            return False

    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)


def complaints(browser: Any) -> list[str]:
    """The messages of the browser's console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """The addresses outside of the file that its page has requested since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Pages with a `chrome` address belong to the browser.
    addresses = [request["request"]["url"] for request in sent if not request["documentURL"].startswith("chrome")]
    return [address for address in addresses if not address.startswith(("file:", "data:", "blob:", "about:"))]


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def texts(browser, selector):
    return [found.text for found in all_of(browser, selector)]


def name_of(found):
    """The accessible name of a control."""
    return found.accessible_name


def button(browser, name):
    """The button with a name, moved to the middle of the screen."""
    chosen = next(found for found in all_of(browser, "button") if found.is_displayed() and name_of(found) == name)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chosen)
    return chosen


def now(browser):
    return browser.execute_script("return document.querySelector('audio').currentTime")


def slow_down(browser, rate=0.1):
    """So that a busy machine is in time to meet a sound while it plays."""
    browser.execute_script(
        f"window.rate = {rate}; player.playbackRate = rate;"
        "player.onplay = () => { player.defaultPlaybackRate = player.playbackRate = window.rate; }"
    )


def pressed(browser):
    return [name_of(found) for found in all_of(browser, "button[aria-pressed=true]")]


def contrast(one, other):
    """Of two colours, as WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    levels = [int(level) / 255 for level in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _programs() -> tuple[str, str]:
    programs = _installed()
    if programs is None and shutil.which("apt-get") and os.geteuid() == 0:
        _install()
        programs = _installed()
    if programs is None:
        pytest.skip(
            "no Chromium with its driver here, and none can be installed: apt-get install chromium chromium-driver"
        )
    return programs


def _installed() -> tuple[str, str] | None:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    return (program, driver) if program and driver else None


def _install() -> None:
    quick = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "-qq"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    end = time.monotonic() + INSTALL_SECONDS
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium", "chromium-driver"]):
        try:
            left = max(end - time.monotonic(), 1)
            subprocess.run(
                ["apt-get", *quick, *command], env=environment, timeout=left, check=True, capture_output=True
            )
        except (subprocess.SubprocessError, OSError) as error:
            print(f"Chromium could not be installed: {error}")
            return
