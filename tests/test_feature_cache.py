"""Features of real images are cached, and computed again when the images, the options or the network change."""

import dataclasses
import errno

import numpy as np
import pytest
import tifffile
from flat_images import MeanColor, make_flat_images
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import sources
from cyclegan_tf.metrics import feature_cache


@pytest.fixture
def constant(tmp_path):
    return make_flat_images(tmp_path)


def test_features_are_not_cached_after_an_error_of_the_disk(constant, tmp_path):
    images, cache, reads = sources.open_dataset(constant).test_b, tmp_path / "cache", []

    def read(index):
        """Fails when file 1 is read again: first for the key of the cache, then for its features."""
        reads.append(index)
        if reads.count(1) == 2 and index == 1:
            raise OSError(errno.EIO, "Input/output error")
        return images.read(index)

    flaky = dataclasses.replace(images, read=read)
    assert feature_cache.load_or_compute(MeanColor(), flaky, constant, str(cache)).tolist() == [[102]]
    again = sources.open_dataset(constant).test_b
    assert feature_cache.load_or_compute(MeanColor(), again, constant, str(cache)).tolist() == [[102], [112]]
    assert len(list((cache / "features").iterdir())) == 1


def test_features_are_cached_if_a_file_is_damaged(constant, tmp_path):
    (tmp_path / "testB" / "testB112.png").write_bytes(b"no picture")
    images = sources.open_dataset(constant).test_b
    assert feature_cache.load_or_compute(MeanColor(), images, constant, str(tmp_path / "cache")).tolist() == [[102]]
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1


def test_features_of_real_images_are_cached_until_something_changes(constant, tmp_path, caplog):
    class Counted(MeanColor):
        calls = 0

        def __call__(self, images):
            self.calls += 1
            return super().__call__(images)

    network, cache = Counted(), tmp_path / "cache"

    def load(config=constant):
        """Loads the features; returns the gray of the first image, and how often the network has run."""
        features = feature_cache.load_or_compute(network, sources.open_dataset(config).test_b, config, str(cache))
        return features[0, 0], network.calls

    assert load() == (102, 1)
    assert load() == (102, 1)
    (cached,) = (cache / "features").iterdir()
    data = bytearray(cached.read_bytes())
    data[data.index(b"PK\1\2") - 1] ^= 1  # The last bit of the features, in front of the directory of the archive.
    cached.write_bytes(data)
    assert load() == (102, 2)
    assert f"{cached} is damaged (Bad CRC-32 for file 'features.npy'); computing the features again" in caplog.text
    assert load() == (102, 2)
    assert load(dataclasses.replace(constant, preprocess="resize_and_crop")) == (102, 3)
    network.name = "another network"
    assert load() == (102, 4)
    Image.new("RGB", (20, 16), (7,) * 3).save(tmp_path / "testB" / "testB102.png")
    assert load() == (7, 5)


@pytest.mark.parametrize(("no_data", "mean"), [("-1", 127.5), ("200", 0)])
def test_cached_features_depend_on_the_no_data_value(tmp_path, no_data, mean):
    config = Config(dataset=str(tmp_path), preprocess="none", pool_size=0, input_channels=1, output_channels=1,
                    range_a="0,200")
    cache = str(tmp_path / "cache")

    def measure(no_data):
        for name in ("trainA", "trainB"):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / "0.tif", np.int16([[0, 200]] * 2),
                             extratags=[(42113, "s", 0, no_data, True)])  # GDAL_NODATA.
        return feature_cache.load_or_compute(MeanColor(), sources.open_dataset(config).train_a, config, cache)

    measure("0")
    assert measure(no_data).tolist() == [[mean]]
