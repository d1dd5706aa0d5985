"""Label maps of Cityscapes against the true ones (Long et al. 2015, section 5; CycleGAN, section 5.1.1)."""

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.networks import saved_model

# The 19 classes that are evaluated, in the order of their training ids, by their colors in gtFine_color images.
CLASSES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}
# Colors of what is not evaluated: unlabeled, dynamic, ground, parking, rail track, guard rail, bridge, tunnel, caravan,
# trailer.
_VOID = ((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
         (150, 120, 90), (0, 0, 90), (0, 0, 110))
_PALETTE = np.array([*CLASSES.values(), *_VOID], np.int32)
VOID = len(CLASSES)


def class_ids(image):
    """uint8 (H, W, 3) colors -> (H, W) ids 0 .. 18 of the class whose color is nearest, 19: not evaluated."""
    # Compared color by color: an image has far fewer of them than pixels, compressed or translated ones aside.
    colors, inverse = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    ids = np.empty(len(colors), np.int64)
    for start in range(0, len(colors), 4096):
        part = colors[start : start + 4096, np.newaxis].astype(np.int32)
        ids[start : start + 4096] = np.argmin(((part - _PALETTE) ** 2).sum(axis=-1), axis=-1)
    return np.minimum(ids, VOID)[inverse.reshape(image.shape[:2])]


def confusion(ids, truth):
    """(19, 20) counts of pixels by true and found class; pixels whose truth is not evaluated are left out."""
    counted = truth < VOID
    pairs = truth[counted] * (VOID + 1) + ids[counted]
    return np.bincount(pairs, minlength=VOID * (VOID + 1)).reshape(VOID, VOID + 1)


def scores(counts):
    """Pixel accuracy, class accuracy and mean IoU of summed `confusion` counts; the means are over the true classes.

    Returns:
      dict of floats in [0, 1]: pixel_accuracy, class_accuracy, mean_iou.

    Raises:
      UserError: no pixel is of an evaluated class.
    """
    right, true, found = np.diag(counts[:, :VOID]), counts.sum(axis=1), counts[:, :VOID].sum(axis=0)
    present = true > 0
    if not present.any():
        raise UserError("segmentation: no pixel of the true label maps has the color of a Cityscapes class; the label "
                        "domain holds the images that datasets prepare-cityscapes makes")
    return {
        "pixel_accuracy": float(right.sum() / true.sum()),
        "class_accuracy": float(np.mean(right[present] / true[present])),
        "mean_iou": float(np.mean(right[present] / (true + found - right)[present])),
    }


class Segmenter:
    """Function of a uint8 photograph (H, W, 3) to (H, W) class ids, by a SavedModel.

    Its serving_default takes float32 (N, H, W, 3) in [-1, 1] and gives scores (N, h, w, 19) of the classes in the order
    of their training ids; ids are enlarged to the photograph's size.

    Raises:
      UserError: it is no such SavedModel.
    """

    def __init__(self, path):
        self._network = saved_model.open_saved_model(path, f"--segmenter={path}")
        self._path = path

    def __call__(self, image):
        height, width = image.shape[:2]
        found = self._network(ranges.to_float(image)[np.newaxis]).numpy()
        if found.ndim != 4 or found.shape[-1] != VOID:
            raise UserError(f"--segmenter={self._path} gives {found.shape}, not scores (1, h, w, {VOID})")
        ids = found[0].argmax(axis=-1)
        return ids[np.arange(height)[:, None] * ids.shape[0] // height, np.arange(width) * ids.shape[1] // width]
