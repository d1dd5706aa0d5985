"""Translates files for tests, by a function in place of a network."""

import os

from cyclegan_tf.config.value_ranges import NO_UNITS
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.inference import batch, jobs, loading, translator


def make_translator(channels=1, units=NO_UNITS, function=lambda images: images, out=None, **stack_options):
    """A translator by a function of images (N, H, W, C) in [-1, 1], the identity by default, to `out` channels."""
    options = StackOptions(channels, units.source is not None, **stack_options)
    network = translator.PixelTranslator(function, channels, out or channels, units)
    return loading.LoadedTranslator(network, options)


def run(source, model, output=None, **options):
    """Translates files, by default to the folder `out` beside them; returns {path: reason} of the files that fail."""
    return batch.run(model, _plan(source, model, output), **options)


def translate(source, model, output=None, **options):
    """Translates a file; returns the path of the result."""
    (job,) = _plan(source, model, output)
    assert batch.run(model, [job], **options) == {}
    return job.target


def _plan(source, model, output, overwrite=False):
    output = str(output or os.path.join(os.path.dirname(source), "out"))
    found = jobs.find(str(source), output)
    return jobs.plan(found, output, model.output_channels, overwrite, model.units.target)


# The results of the folder that the fixture `photos` makes.
PHOTOS = [
    "000.png", "001.png", "002.png", "deep/000.bmp", "deep/001.bmp", "deep/er/000.jpg", "deep/er/001.jpg", "old.png",
]


class Negative(translator.PixelTranslator):
    """Inverts images and records the shape of each batch."""

    def __init__(self):
        self.batches = []
        super().__init__(self._negative, 3, 3)

    def _negative(self, images):
        self.batches.append(images.shape)
        return -images


def translate_all(pattern, output, model=None, overwrite=False, **options):
    """Translates the files that a pattern finds, by default to negatives; returns {path: reason} of bad files."""
    if not isinstance(model, loading.LoadedTranslator):
        model = loading.LoadedTranslator(model or Negative(), StackOptions())
    return batch.run(model, _plan(pattern, model, output, overwrite), **options)


def list_names(folder):
    """Lists the paths of all files below a folder, relative to the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
