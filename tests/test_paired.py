import numpy as np
import pytest

from cyclegan_tf.metrics import paired

# Kind of image -> the values of three grays of it, at equal shares of its range, and that share.
KINDS = {np.uint8: (51, 102, 255), np.uint16: (13107, 26214, 65535), np.float32: (-0.6, -0.2, 1.0)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_measures_do_not_depend_on_the_kind_of_image(kind, channels):
    fifth, two_fifths, _ = (np.full((16, 16, channels), value, kind) for value in KINDS[kind])
    # A difference of a fifth of the range everywhere: 10 log10(25).
    assert paired.psnr(fifth, two_fifths) == pytest.approx(13.9794, abs=1e-3)
    # Without contrast only the luminance term is left: (2 a b + C1) / (a^2 + b^2 + C1), C1 = 0.01^2.
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert paired.ssim(fifth, two_fifths) == pytest.approx(expected, abs=2e-4)
    assert paired.ssim(fifth, fifth) == pytest.approx(1, abs=1e-5)
