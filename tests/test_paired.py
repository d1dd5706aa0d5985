"""PSNR, SSIM, MS-SSIM and L1: by hand, against scikit-image, and equal for all kinds of images."""

import numpy as np
import pytest

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import paired

# Values of three grays in each kind of image: one fifth, two fifths and the end of its range.
KINDS = {np.uint8: (51, 102, 255), np.uint16: (13107, 26214, 65535), np.float32: (-0.6, -0.2, 1.0)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_measures_do_not_depend_on_the_kind_of_image(kind, channels):
    fifth, two_fifths, _ = (np.full((16, 16, channels), value, kind) for value in KINDS[kind])
    # The images differ by a fifth of the range everywhere: 10 log10(25).
    assert paired.psnr(fifth, two_fifths) == pytest.approx(13.9794, abs=1e-3)
    # Without contrast, SSIM is its luminance term: (2 a b + C1) / (a^2 + b^2 + C1), C1 = 0.01^2.
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert paired.ssim(fifth, two_fifths) == pytest.approx(expected, abs=2e-4)
    assert paired.ssim(fifth, fifth) == pytest.approx(1, abs=1e-5)


def test_l1_by_hand():
    black, gray = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert paired.l1(black, gray) == pytest.approx(0.4)  # A fifth of the range of 2.


def test_psnr_and_ssim_equal_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="needs scikit-image, from the extra dev")
    random = np.random.default_rng(0)
    truth = np.repeat(np.repeat(random.integers(0, 256, (12, 10, 3)), 4, 0), 4, 1).astype(np.uint8)
    image = np.clip(truth + random.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    assert paired.psnr(image, truth) == pytest.approx(metrics.peak_signal_noise_ratio(truth, image), abs=1e-4)
    _, found = metrics.structural_similarity(
        truth, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, full=True
    )
    # TensorFlow uses only windows inside the image.
    assert paired.ssim(image, truth) == pytest.approx(found[5:-5, 5:-5].mean(), abs=1e-4)


def test_ssim_needs_images_of_its_window():
    image = np.random.default_rng(0).integers(0, 256, (11, 12, 3), np.uint8)
    assert paired.ssim(image, image) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match=r"^ssim needs images of at least 11 x 11 pixels, but one has 12 x 10: use"):
        paired.ssim(image[1:], image[1:])


def test_ms_ssim_needs_large_images():
    image = np.random.default_rng(0).integers(0, 256, (161, 161, 3), np.uint8)
    assert paired.ms_ssim(image, image) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="at least 161 x 161 pixels, but one has 161 x 160"):
        paired.ms_ssim(image[1:], image[1:])
