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
        results = formats.export(str(tiny_run), "web", str(folder), max_side=64)
    except UserError as error:
        if "npm is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert [result.artifact.name for result in results] == ["a2b.onnx", "b2a.onnx"]
    assert all(result.largest <= 1e-4 for result in results)
    assert {path.name for path in folder.iterdir()} == set(formats.list_outputs("web", ("a2b", "b2a")))
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
    """A function that translates uint8 (H, W, 3) with the SavedModel of a direction; returns uint8 (H, W, 3)."""
    loaded = {direction: tf.saved_model.load(str(tiny_run / "export" / direction)) for direction in ("a2b", "b2a")}

    def translate(image, direction="a2b"):
        return loaded[direction].signatures["translate"](images=tf.constant(image[None]))["images"][0].numpy()

    return translate


def choose_file(driver, path, condition="document.body.dataset.state === 'done'"):
    """Chooses a file on the page, waits for the condition, and returns the status line."""
    driver.execute_script("document.body.dataset.state = ''")
    driver.find_element("id", "file").send_keys(str(path))
    wait_for(driver, condition)
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


def read_sample(page, name):
    sample = np.asarray(Image.open(page / name))
    assert sample.shape == (64, 64, 3)
    return sample


def test_page_opens_with_a_translated_held_out_image(driver, page, translate):
    sample = read_sample(page, "sample-a2b-1.png")
    assert_same_pixels(driver, sample, translate(sample))
    assert driver.title == "tiny: satellite image to map"
    assert (driver.find_element("id", "from").text, driver.find_element("id", "to").text) == ("satellite image", "map")


def test_samples_and_directions_can_be_chosen(driver, page, translate):
    samples, directions = (
        driver.find_elements("css selector", f"#{name} button") for name in ("samples", "directions")
    )
    assert [button.text for button in directions] == ["satellite image \u2192 map", "map \u2192 satellite image"]
    assert len(samples) == 3
    for click, name in ((samples[2], "sample-a2b-3.png"), (directions[1], "sample-b2a-1.png")):
        driver.execute_script("document.body.dataset.state = ''")
        click.click()
        wait_for(driver, "document.body.dataset.state === 'done'")
        sample = read_sample(page, name)
        assert_same_pixels(driver, sample, translate(sample, name.split("-")[1]))
    assert driver.title == "tiny: map to satellite image"
    # The image of a user stays when the direction changes.
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(page.parent / "own.png")
    choose_file(driver, page.parent / "own.png")
    assert_same_pixels(driver, image, translate(image, "b2a"))
    driver.execute_script("document.body.dataset.state = ''")
    directions[0].click()
    wait_for(driver, "document.body.dataset.state === 'done'")
    assert_same_pixels(driver, image, translate(image, "a2b"))


# Multiples of four, others, and sizes below the smallest that the network accepts.
@pytest.mark.parametrize(("height", "width"), [(36, 48), (33, 47), (3, 5)])
def test_translation_has_the_saved_models_pixels(driver, translate, tmp_path, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert choose_file(driver, tmp_path / "image.png").startswith(f"{width} x {height} pixels in ")
    assert_same_pixels(driver, image, translate(image))


def test_transparency_is_composited_on_white(driver, translate, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 4), np.uint8)
    image[..., 3] = np.where(np.arange(32) < 16, 0, 255)
    Image.fromarray(image).save(tmp_path / "image.png")
    choose_file(driver, tmp_path / "image.png")
    expected = np.where(image[..., 3:] > 0, image[..., :3], 255).astype(np.uint8)
    assert_same_pixels(driver, expected, translate(expected))


def test_large_images_are_scaled_down_with_their_aspect_ratio(driver, tmp_path):
    from selenium.webdriver.support.ui import Select

    Image.new("RGB", (700, 500), "teal").save(tmp_path / "large.jpg")
    # 64 x 45.7.
    assert choose_file(driver, tmp_path / "large.jpg").startswith("64 x 46 pixels")
    side = Select(driver.find_element("id", "side"))
    driver.execute_script("document.body.dataset.state = ''")
    side.select_by_value("128")
    wait_for(driver, "document.body.dataset.state === 'done'")
    # 128 x 91.4.
    assert read_status(driver).startswith("128 x 91 pixels")
    side.select_by_value("64")
    wait_for(driver, "document.body.dataset.state === 'done' && after.width === 64")


def test_nothing_can_be_saved_until_the_new_image_is_translated(driver, tmp_path):
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "next.png")
    choose_file(driver, tmp_path / "next.png")
    driver.execute_script("""
        window.savable = [];
        const record = () => savable.push([document.body.dataset.state, !document.getElementById("save").disabled]);
        new MutationObserver(record).observe(document.body, {attributeFilter: ["data-state"]});
    """)
    choose_file(driver, tmp_path / "next.png")
    assert [each for each in driver.execute_script("return savable") if each[0]] == [["busy", False], ["done", True]]


def test_an_error_clears_with_the_next_image_or_when_it_is_closed(driver, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "next.png")
    settled, error = choose_file(driver, tmp_path / "next.png"), driver.find_element("id", "error")
    assert settled.startswith("32 x 32 pixels")
    for clear in (driver.find_element("id", "dismiss").click, lambda: choose_file(driver, tmp_path / "next.png")):
        assert not error.is_displayed()
        assert choose_file(driver, tmp_path / "notes.txt", "!document.getElementById('error').hidden") == settled
        assert "cannot read notes.txt as an image" in error.text
        clear()
    assert not error.is_displayed()
    assert read_status(driver).startswith("32 x 32 pixels")


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


def test_two_quick_clicks_start_one_camera(driver):
    button = driver.find_element("id", "camera")
    driver.execute_script("""
        const start = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.nStarts = 0;
        navigator.mediaDevices.getUserMedia = (options) => { window.nStarts += 1; return start(options); };
        document.getElementById("camera").click();
        document.getElementById("camera").click();
    """)
    wait_for(driver, "source?.srcObject && document.body.dataset.state === 'done'")
    assert driver.execute_script("return window.nStarts") == 1
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


def test_page_loads_only_its_own_files_without_console_errors(driver, page):
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((driver.url, "blob:", "data:")) for name in loaded)
    files = {f"/{path.relative_to(page)}" for path in page.rglob("*") if path.is_file()}
    needed = {"/a2b.onnx", "/runtime/ort-wasm-simd-threaded.wasm", "/worker.js"}
    assert needed <= set(driver.requests) <= files | {"/"}
    assert read_console(driver) == []


def test_page_opened_from_disk_asks_for_a_server(page, driver):
    here = driver.current_url
    driver.get(f"file://{page}/index.html")
    assert "python -m http.server" in driver.find_element("id", "error").text
    read_console(driver)  # Clears the messages of the page from disk.
    driver.get(here)


def test_runtime_dir_replaces_the_download(tiny_run, tmp_path, page):
    (tmp_path / "package").mkdir()
    shutil.copytree(page / "runtime", tmp_path / "package" / "dist")
    formats.export(str(tiny_run), "web", str(tmp_path / "out"), "b2a", runtime_dir=str(tmp_path / "package"))
    (direction,) = json.loads((tmp_path / "out" / "model.json").read_text())["directions"]
    assert (direction["direction"], direction["from"], direction["to"]) == ("b2a", "map", "satellite image")
    with pytest.raises(UserError, match=r"--runtime_dir=.* has no dist/ort\.wasm"):
        formats.export(str(tiny_run), "web", str(tmp_path / "none"), runtime_dir=str(tmp_path / "out"))
    assert not (tmp_path / "none").exists()


def test_missing_npm_error_names_the_alternative(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"needs npm to download onnxruntime-web.* give it as --runtime_dir"):
        formats.export(str(tiny_run), "web", str(tmp_path / "page"))
    assert not (tmp_path / "page").exists()
