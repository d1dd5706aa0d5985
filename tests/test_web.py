"""The exported page in headless Chromium, compared with the run's SavedModel."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from browser import chromium, read_canvas, read_console, serve, wait_for
from PIL import Image

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    """The folder of the exported page."""
    folder = tmp_path_factory.mktemp("web") / "page"
    try:
        (result,) = formats.export(str(tiny_run), "web", str(folder), max_side=64)
    except UserError as error:
        if "npm is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert result.largest <= 1e-4
    assert {path.name for path in folder.iterdir()} == set(formats.list_outputs("web", "a2b", []))
    return folder


@pytest.fixture(scope="module")
def driver(page, tmp_path_factory):
    """A browser with the page open and its sample translated."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver, serve(page) as (url, requests):
        driver.get(url)
        driver.requests = requests
        driver.url = url
        wait_for(driver, "document.body.dataset.state === 'done'")
        yield driver


@pytest.fixture(scope="module")
def translate(tiny_run):
    """A function that translates uint8 (H, W, 3) with the SavedModel; returns uint8 (H, W, 3)."""
    loaded = tf.saved_model.load(str(tiny_run / "export" / "a2b"))
    return lambda image: loaded.signatures["translate"](images=tf.constant(image[None]))["images"][0].numpy()


def choose_file(driver, path, state="done"):
    """Chooses a file on the page, waits until the page has this state, and returns its status line."""
    driver.execute_script("document.body.dataset.state = ''")
    driver.find_element("id", "file").send_keys(str(path))
    wait_for(driver, f"document.body.dataset.state === '{state}'")
    return read_status(driver)


def read_status(driver):
    return driver.find_element("id", "status").text.replace("\u00d7", "x")


def assert_same_pixels(driver, image, expected):
    assert (read_canvas(driver, "before")[..., :3] == image).all()
    result = read_canvas(driver, "after")
    assert (result[..., 3] == 255).all()
    assert expected.std() > 1, "a constant expected image would hide differences"
    # Within one of 255 levels, because WebAssembly may round the last bits differently.
    assert np.abs(result[..., :3].astype(int) - expected).max() <= 1


def test_page_opens_with_a_translated_held_out_image(driver, page, translate):
    sample = np.asarray(Image.open(page / "sample.png"))
    assert sample.shape == (32, 32, 3)
    assert_same_pixels(driver, sample, translate(sample))
    assert driver.title == "tiny: A to B"


def test_translation_has_the_saved_models_pixels(driver, translate, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert choose_file(driver, tmp_path / "image.png").startswith("48 x 36 pixels in ")
    assert_same_pixels(driver, image, translate(image))


def test_transparency_is_composited_on_white(driver, translate, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 4), np.uint8)
    image[..., 3] = np.where(np.arange(32) < 16, 0, 255)
    Image.fromarray(image).save(tmp_path / "image.png")
    choose_file(driver, tmp_path / "image.png")
    expected = np.where(image[..., 3:] > 0, image[..., :3], 255).astype(np.uint8)
    assert_same_pixels(driver, expected, translate(expected))


def test_large_images_are_scaled_down_to_multiples_of_four(driver, tmp_path):
    from selenium.webdriver.support.ui import Select

    Image.new("RGB", (700, 500), "teal").save(tmp_path / "large.jpg")
    # 64 x 45.7, and 45.7 / 4 = 11.4.
    assert choose_file(driver, tmp_path / "large.jpg").startswith("64 x 44 pixels")
    side = Select(driver.find_element("id", "side"))
    driver.execute_script("document.body.dataset.state = ''")
    side.select_by_value("128")
    wait_for(driver, "document.body.dataset.state === 'done'")
    # 128 x 91.4, and 91.4 / 4 = 22.9.
    assert read_status(driver).startswith("128 x 92 pixels")
    side.select_by_value("64")
    wait_for(driver, "document.body.dataset.state === 'done' && after.width === 64")


def test_a_file_that_is_not_an_image_is_an_error_and_the_page_still_works(driver, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert "cannot read notes.txt as an image" in choose_file(driver, tmp_path / "notes.txt", state="error")
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "next.png")
    assert choose_file(driver, tmp_path / "next.png").startswith("32 x 32 pixels")


def test_slider_moves_with_keyboard_and_pointer(driver):
    from selenium.webdriver.common.action_chains import ActionChains

    def split():
        return float(driver.execute_script("return stage.style.getPropertyValue('--split')").rstrip("%"))

    driver.find_element("id", "split").send_keys("\ue011")  # Home.
    assert split() == 0
    stage = driver.find_element("id", "stage")
    ActionChains(driver).move_to_element_with_offset(stage, stage.size["width"] / 4, 0).click().perform()
    assert abs(split() - 75) < 1


def test_camera_is_translated_until_stopped(driver):
    button = driver.find_element("id", "camera")
    driver.execute_script("document.body.dataset.state = ''")
    button.click()
    wait_for(driver, "source?.srcObject && document.body.dataset.state === 'done'")
    assert button.get_attribute("aria-pressed") == "true"
    # Chromium's fake camera shows 4:3 pictures.
    assert read_canvas(driver, "after").shape == (48, 64, 4)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    live = "source?.srcObject?.getTracks().some((track) => track.readyState === 'live')"
    assert not driver.execute_script(f"return {live}")


def test_page_loads_only_its_own_files_without_console_errors(driver, page):
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((driver.url, "blob:", "data:")) for name in loaded)
    files = {f"/{path.relative_to(page)}" for path in page.rglob("*") if path.is_file()}
    needed = {"/model.onnx", "/runtime/ort-wasm-simd-threaded.wasm", "/worker.js"}
    assert needed <= set(driver.requests) <= files | {"/"}
    assert read_console(driver) == []


def test_page_opened_from_disk_asks_for_a_server(page, driver):
    here = driver.current_url
    driver.get(f"file://{page}/index.html")
    assert "python -m http.server" in driver.find_element("id", "status").text
    read_console(driver)  # Clears the messages of the page from disk.
    driver.get(here)


def test_runtime_dir_replaces_the_download(tiny_run, tmp_path, page):
    (tmp_path / "package").mkdir()
    shutil.copytree(page / "runtime", tmp_path / "package" / "dist")
    formats.export(str(tiny_run), "web", str(tmp_path / "out"), "b2a", runtime_dir=str(tmp_path / "package"))
    assert json.loads((tmp_path / "out" / "model.json").read_text())["direction"] == "b2a"
    with pytest.raises(UserError, match=r"--runtime_dir=.* has no dist/ort\.wasm"):
        formats.export(str(tiny_run), "web", str(tmp_path / "none"), runtime_dir=str(tmp_path / "out"))
    assert not (tmp_path / "none").exists()


def test_missing_npm_error_names_the_alternative(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"needs npm to download onnxruntime-web.* give it as --runtime_dir"):
        formats.export(str(tiny_run), "web", str(tmp_path / "page"))
    assert not (tmp_path / "page").exists()
