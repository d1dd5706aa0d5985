"""The exported page in headless Chromium, against the run's SavedModel."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from browser import chromium, complaints, pixels, served, wait
from PIL import Image

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    """Folder of the exported page."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which gets the browser's runtime")
    folder = tmp_path_factory.mktemp("web") / "page"
    (result,) = formats.export(str(tiny_run), "web", str(folder), max_side=64)
    assert result.largest <= 1e-4
    assert {path.name for path in folder.iterdir()} == set(formats._names("web", "a2b", []))
    return folder


@pytest.fixture(scope="module")
def driver(page, tmp_path_factory):
    """A browser with the page open and its sample translated."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver, served(page) as (url, asked):
        driver.get(url)
        driver.asked = asked
        driver.url = url
        wait(driver, "document.body.dataset.state === 'done'")
        yield driver


@pytest.fixture(scope="module")
def translate(tiny_run):
    """The uint8 translation of a uint8 (H, W, 3) by the SavedModel."""
    loaded = tf.saved_model.load(str(tiny_run / "export" / "a2b"))
    return lambda image: loaded.signatures["translate"](images=tf.constant(image[None]))["images"][0].numpy()


def give(driver, path, state="done"):
    """Chooses a file on the page and waits for what comes of it."""
    driver.execute_script("document.body.dataset.state = ''")
    driver.find_element("id", "file").send_keys(str(path))
    wait(driver, f"document.body.dataset.state === '{state}'")
    return status(driver)


def status(driver):
    return driver.find_element("id", "status").text.replace("\u00d7", "x")


def assert_same_pixels(driver, image, expected):
    assert (pixels(driver, "before")[..., :3] == image).all()
    result = pixels(driver, "after")
    assert (result[..., 3] == 255).all()
    assert expected.std() > 1, "a constant image would equal anything"
    # Within one of 255 levels: WebAssembly's last bits may round the other way.
    assert np.abs(result[..., :3].astype(int) - expected).max() <= 1


def test_the_sample_is_the_first_held_out_image_translated(driver, page, translate):
    sample = np.asarray(Image.open(page / "sample.png"))
    assert sample.shape == (32, 32, 3)
    assert_same_pixels(driver, sample, translate(sample))
    assert driver.title == "tiny: A to B"


def test_a_chosen_image_gives_the_saved_models_pixels(driver, translate, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert give(driver, tmp_path / "image.png").startswith("48 x 36 pixels in ")
    assert_same_pixels(driver, image, translate(image))


def test_transparency_is_put_on_white(driver, translate, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 4), np.uint8)
    image[..., 3] = np.where(np.arange(32) < 16, 0, 255)
    Image.fromarray(image).save(tmp_path / "image.png")
    give(driver, tmp_path / "image.png")
    expected = np.where(image[..., 3:] > 0, image[..., :3], 255).astype(np.uint8)
    assert_same_pixels(driver, expected, translate(expected))


def test_large_images_are_scaled_to_multiples_of_four(driver, tmp_path):
    from selenium.webdriver.support.ui import Select

    Image.new("RGB", (700, 500), "teal").save(tmp_path / "large.jpg")
    # 64 x 45.7, and 45.7 / 4 = 11.4.
    assert give(driver, tmp_path / "large.jpg").startswith("64 x 44 pixels")
    side = Select(driver.find_element("id", "side"))
    driver.execute_script("document.body.dataset.state = ''")
    side.select_by_value("128")
    wait(driver, "document.body.dataset.state === 'done'")
    # 128 x 91.4, and 91.4 / 4 = 22.9.
    assert status(driver).startswith("128 x 92 pixels")
    side.select_by_value("64")
    wait(driver, "document.body.dataset.state === 'done' && after.width === 64")


def test_what_is_no_image_is_said_and_the_page_goes_on(driver, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert "notes.txt is no image" in give(driver, tmp_path / "notes.txt", state="error")
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "next.png")
    assert give(driver, tmp_path / "next.png").startswith("32 x 32 pixels")


def test_the_slider_obeys_the_keyboard_and_the_pointer(driver):
    from selenium.webdriver.common.action_chains import ActionChains

    def split():
        return float(driver.execute_script("return stage.style.getPropertyValue('--split')").rstrip("%"))

    driver.find_element("id", "split").send_keys("\ue011")  # Home.
    assert split() == 0
    stage = driver.find_element("id", "stage")
    ActionChains(driver).move_to_element_with_offset(stage, stage.size["width"] / 4, 0).click().perform()
    assert abs(split() - 75) < 1


def test_the_camera_is_translated_until_it_is_stopped(driver):
    button = driver.find_element("id", "camera")
    driver.execute_script("document.body.dataset.state = ''")
    button.click()
    wait(driver, "source?.srcObject && document.body.dataset.state === 'done'")
    assert button.get_attribute("aria-pressed") == "true"
    # Chromium's fake camera shows 4:3 pictures.
    assert pixels(driver, "after").shape == (48, 64, 4)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    live = "source?.srcObject?.getTracks().some((track) => track.readyState === 'live')"
    assert not driver.execute_script(f"return {live}")


def test_everything_came_from_the_folder_and_nothing_complained(driver, page):
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((driver.url, "blob:", "data:")) for name in loaded)
    files = {f"/{path.relative_to(page)}" for path in page.rglob("*") if path.is_file()}
    assert {"/model.onnx", "/runtime/ort-wasm-simd-threaded.wasm", "/worker.js"} <= set(driver.asked) <= files | {"/"}
    assert complaints(driver) == []


def test_from_the_disk_the_page_says_what_to_do(page, driver):
    here = driver.current_url
    driver.get(f"file://{page}/index.html")
    assert "python -m http.server" in driver.find_element("id", "status").text
    complaints(driver)  # Those of the disk are no longer the page's.
    driver.get(here)


def test_the_runtime_may_be_given(tiny_run, tmp_path, page):
    (tmp_path / "package").mkdir()
    shutil.copytree(page / "runtime", tmp_path / "package" / "dist")
    formats.export(str(tiny_run), "web", str(tmp_path / "out"), "b2a", runtime_dir=str(tmp_path / "package"))
    assert json.loads((tmp_path / "out" / "model.json").read_text())["direction"] == "b2a"
    with pytest.raises(UserError, match=r"--runtime_dir=.* holds no dist/ort\.wasm"):
        formats.export(str(tiny_run), "web", str(tmp_path / "none"), runtime_dir=str(tmp_path / "out"))
    assert not (tmp_path / "none").exists()


def test_without_npm_the_ways_on_are_named(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"needs npm to get onnxruntime-web.* give it as --runtime_dir"):
        formats.export(str(tiny_run), "web", str(tmp_path / "page"))
    assert not (tmp_path / "page").exists()
