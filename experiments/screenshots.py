"""Takes the screenshots of README.md and docs/ in headless Chromium.

  cyclegan train --preset=demo
  python experiments/screenshots.py [--run=runs/demo] [--output=docs] [--only=gallery.png]

Writes, into OUTPUT:
  gallery.png      the page of the run, wide and light, and as a phone shows it, dark
  samples.png      the newest sample grid of the run
  tensorboard.png  the page that TensorBoard opens with
  web.png          the page that --format=web exports from the model demo, wide and light, and as a phone shows it, dark

Needs Debian's chromium and chromium-driver, and pip install '.[dev]'.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from cyclegan_tf.exporters import formats
from cyclegan_tf.runs import sample_files

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
import browser

WIDE, PHONE = 1080, 390  # Widths in CSS pixels.
TENSORBOARD = 1400, 900  # Width and height.


def shoot(driver: Any, width: int, height: int, dark: bool, section: str = "body") -> Image.Image:
    """Returns a picture of the page that `driver` shows, from the element that the selector `section` finds."""
    browser.set_view(driver, width, height, dark)
    driver.execute_script(f"""
        document.documentElement.style.scrollbarWidth = "none";
        for (const image of document.images) image.loading = "eager";
        document.querySelector("{section}").scrollIntoView();
    """)
    browser.wait_for(driver, "[...document.images].every((image) => image.complete)")
    time.sleep(1)  # Chromium draws the new size some frames later.
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def shoot_both(driver: Any, height: int, section: str = "body") -> Image.Image:
    """Returns a page as a wide window shows it, light, and beside it as a phone shows it, dark, from `section` on."""
    return join([shoot(driver, WIDE, height, dark=False), shoot(driver, PHONE, height, dark=True, section=section)])


def join(pictures: list[Image.Image]) -> Image.Image:
    """Returns pictures of one height side by side."""
    joined = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width
    return joined


def shoot_gallery(driver: Any, run: str) -> Image.Image:
    """Returns the page of a run."""
    driver.get(f"file://{os.path.abspath(run)}/index.html")
    return shoot_both(driver, 1000, "#samples")


def shoot_web(driver: Any) -> Image.Image:
    """Returns the exported page of the model demo, with the first sample image translated."""
    with tempfile.TemporaryDirectory() as folder:
        formats.export("demo", "web", folder)
        with browser.serve(folder) as (url, _):
            driver.get(url)
            browser.wait_for(driver, "document.body.dataset.state === 'done'")
            return shoot_both(driver, 844)


def shoot_tensorboard(driver: Any, run: str) -> Image.Image:
    """Returns the first page that TensorBoard shows of a run."""
    with serve_tensorboard(run) as url:
        browser.set_view(driver, *TENSORBOARD, dark=False)  # TensorBoard asks for the color scheme only once.
        driver.get(url)
        browser.wait_for(driver, "document.querySelectorAll('card-view').length > 3")
        time.sleep(5)  # The cards load their pictures and curves one after the other.
        return shoot(driver, *TENSORBOARD, dark=False)


@contextlib.contextmanager
def serve_tensorboard(run: str) -> Iterator[str]:
    """Runs TensorBoard on a run directory; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    logdir = f"--logdir_spec={os.path.basename(os.path.abspath(run))}:{run}"
    command = [sys.executable, "-m", "tensorboard.main", logdir, f"--port={port}", "--host=127.0.0.1",
               "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not has_scalars(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"TensorBoard shows nothing of {run}")
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait()


def has_scalars(url: str) -> bool:
    """True if the TensorBoard at this address runs and has read a run."""
    try:
        with urllib.request.urlopen(f"{url}data/plugin/scalars/tags") as answer:
            return bool(json.load(answer))
    except OSError:
        return False


def main() -> None:
    """Takes the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/demo", help="run directory")
    parser.add_argument("--only", choices=("gallery.png", "samples.png", "tensorboard.png", "web.png"),
                        help="the only screenshot to take")
    parser.add_argument("--output", default="docs", help="folder to write the pictures into")
    args = parser.parse_args()
    if not os.path.exists(os.path.join(args.run, "index.html")):
        sys.exit(f"{args.run} is not a run directory with a page; train one: cyclegan train --preset=demo "
                 f"--workdir={args.run}")
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        sys.exit(f"{' and '.join(missing)} not found; install Debian's packages chromium and chromium-driver")
    samples = os.path.join(args.run, sample_files.list_samples(args.run)[-1].path)
    takers: dict[str, Callable[[Any], Image.Image]] = {
        "gallery.png": lambda driver: shoot_gallery(driver, args.run),
        "samples.png": lambda driver: Image.open(samples).convert("RGB"),
        "tensorboard.png": lambda driver: shoot_tensorboard(driver, args.run),
        "web.png": shoot_web,
    }
    with tempfile.TemporaryDirectory() as profile, browser.chromium(profile) as driver:
        for name in [args.only] if args.only else takers:
            path = os.path.join(args.output, name)
            takers[name](driver).save(path, optimize=True)
            print(f"{path}: {os.path.getsize(path) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
