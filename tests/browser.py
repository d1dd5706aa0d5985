"""Helpers for tests of web pages: a headless Chromium, a static file server, and functions to look at a page."""

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
    """Starts Debian's Chromium with an empty profile in the folder `profile`; skips the test if a program is missing.

    Yields:
      A selenium driver.
    """
    paths = [shutil.which(program) for program in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("Chromium or its driver is not installed: apt-get install chromium chromium-driver")
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
def serve(folder):
    """Serves the static files in `folder`.

    Yields:
      The server's address, and a list that grows by the path of each request.
    """
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for(driver, condition, seconds=60):
    """Waits until the JavaScript expression `condition` is true; returns its value."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds).until(lambda d: d.execute_script(f"return {condition}"))


def read_canvas(driver, expression):
    """Returns the pixels of the canvas that a JavaScript expression names: RGBA, uint8 (H, W, 4)."""
    url = driver.execute_script(f"return ({expression}).toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def read_console(driver):
    """Returns and clears the console's messages, except about the missing favicon."""
    return [entry["message"] for entry in driver.get_log("browser") if "favicon" not in entry["message"]]


def set_view(driver, width, height, dark, scale=1):
    """Sets the page's size in CSS pixels, its color scheme, and the device pixels per CSS pixel."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
