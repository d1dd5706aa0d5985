"""The models by the names that --model takes."""

from cyclegan_tf.models.base import Model
from cyclegan_tf.models.cut import Cut
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix

MODELS: dict[str, type[Model]] = {"cyclegan": CycleGAN, "pix2pix": Pix2Pix, "cut": Cut, "fastcut": Cut}
