"""A whole run on 16-bit gray images and 5-channel arrays: samples, measures and SavedModels."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.training import trainer


def write_scans(folder, channels, rng):
    """Writes 16-bit gray PNG files for one channel, .npy files of floats for more; all 24 x 20 pixels."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    for index in range(3):
        for split in ("train", "test"):
            path = folder / split / f"{index}"
            if channels == 1:
                Image.fromarray(rng.integers(0, 65536, (24, 20)).astype(np.uint16)).save(f"{path}.png")
            else:
                np.save(path, rng.uniform(-1, 1, (24, 20, channels)).astype(np.float32))


@pytest.fixture
def scans(tmp_path):
    """A data set of gray 16-bit images A and 5-channel arrays B, with one bad file."""
    rng = np.random.default_rng(0)
    for domain, channels in (("A", 1), ("B", 5)):
        write_scans(tmp_path / domain, channels, rng)
        for split in ("train", "test"):
            (tmp_path / domain / split).rename(tmp_path / f"{split}{domain}")
    (tmp_path / "trainA" / "bad.png").write_bytes(b"")
    return tmp_path


def test_a_run_between_one_and_five_channels(scans, tmp_path):
    config = Config.preset(
        "tiny", dataset=str(scans), input_channels=1, output_channels=5, lambda_identity=0.0, checkpoint_every=0,
        sample_every=0, paired="no",
    )
    run = tmp_path / "run"
    measures = trainer.train(config, str(run))
    assert set(measures) == {"cycle_a", "cycle_b"}
    model = tf.saved_model.load(str(run / "export" / "a2b"))
    assert set(model.signatures) == {"serving_default", "translate"}
    assert model.signatures["translate"](images=np.zeros((1, 8, 8, 1), np.uint8))["images"].shape == (1, 8, 8, 5)
    assert (run / "bad_images.txt").read_text() == f"{scans}/trainA/bad.png\tcannot identify image file\n"
    assert "skipped 1 images that cannot be used" in (run / "log.txt").read_text()
    sample = np.asarray(Image.open(run / "samples" / "step-000004.png"))
    # The first column, below the 68 pixels of the titles, shows the gray images of A.
    cell = sample[68 : 68 + 4 * 32, 2 : 2 + 4 * 32]
    assert (cell == cell[..., :1]).all()
    assert len(np.unique(cell)) > 100
