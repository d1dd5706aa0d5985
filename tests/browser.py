"""A headless Chromium for tests that look at pages, and a static file server for what it loads."""

import base64
import contextlib
import functools
import http.server
import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)


@contextlib.contextmanager
def chromium(profile):
    """A selenium driver of Debian's Chromium with an empty profile in folder `profile`; skips where there is none."""
    paths = shutil.which("chromium"), shutil.which("chromedriver")
    if None in paths:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths[1]))
    try:
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def served(folder):
    """The address of a static file server of `folder`, and the list of paths that it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait(driver, condition, seconds=60):
    """Waits until JavaScript expression `condition` is true; its value."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds).until(lambda d: d.execute_script(f"return {condition}"))


def pixels(driver, expression):
    """uint8 (H, W, 4) of a canvas that a JavaScript expression names."""
    url = driver.execute_script(f"return ({expression}).toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def complaints(driver):
    """What the browser's console holds, but for the icon that no page here has."""
    return [entry["message"] for entry in driver.get_log("browser") if "favicon" not in entry["message"]]


def look(driver, width, height, dark, scale=1):
    """Gives the page a size in CSS pixels and a color scheme."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
