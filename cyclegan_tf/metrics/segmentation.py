"""Cityscapes scores of label maps (Long et al. 2015, section 5; the CycleGAN paper, section 5.1.1)."""

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.images import ranges
from cyclegan_tf.networks import saved_model
from cyclegan_tf.ops import exhaustion

# Colors of the 19 evaluated classes in gtFine_color images, in the order of their training ids.
CLASSES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}
# Colors of the labels that are not evaluated: unlabeled, dynamic, ground, parking, rail track, guard rail, bridge,
# tunnel, caravan, trailer.
_VOID = ((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
         (150, 120, 90), (0, 0, 90), (0, 0, 110))
_PALETTE = np.array([*CLASSES.values(), *_VOID], np.int32)
VOID = len(CLASSES)
NO_COUNTS = np.zeros((VOID, VOID + 1), np.int64)  # The `count_confusion` counts of no images.


def classify_colors(image: np.ndarray) -> np.ndarray:
    """Returns for each pixel the class with the nearest color.

    Args:
      image: uint8 (H, W, 3).

    Returns:
      int64 (H, W) ids: 0 to 18, or 19 for colors that are not evaluated.
    """
    # Classify each distinct color once: label maps have far fewer colors than pixels.
    colors, inverse = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    ids = np.empty(len(colors), np.int64)
    for start in range(0, len(colors), 4096):  # Bounds the memory for images with many colors.
        part = colors[start : start + 4096, np.newaxis].astype(np.int32)
        ids[start : start + 4096] = np.argmin(((part - _PALETTE) ** 2).sum(axis=-1), axis=-1)
    return np.minimum(ids, VOID)[inverse.reshape(image.shape[:2])]


def count_confusion(ids: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts pixels by true class and found class: int64 (19, 20). Pixels without a true class do not count.

    Args:
      ids, truth: found and true classes as from `classify_colors`, of equal shape.
    """
    counted = truth < VOID
    pairs = truth[counted] * (VOID + 1) + ids[counted]
    return np.bincount(pairs, minlength=VOID * (VOID + 1)).reshape(VOID, VOID + 1)


def compute_scores(counts: np.ndarray) -> dict[str, float]:
    """Computes pixel_accuracy, class_accuracy and mean_iou, in [0, 1], from summed `count_confusion` counts.

    class_accuracy and mean_iou are means over the classes that occur in the true label maps.

    Raises:
      UserError: no pixel has a true class.
    """
    right, true, found = np.diag(counts[:, :VOID]), counts.sum(axis=1), counts[:, :VOID].sum(axis=0)
    present = true > 0
    if not present.any():
        raise UserError("segmentation needs label maps, but no pixel of the true label maps has the color of a "
                        "Cityscapes class; make the label maps with `cyclegan datasets prepare-cityscapes`")
    return {
        "pixel_accuracy": float(right.sum()) / float(true.sum()),
        "class_accuracy": float(np.mean(right[present] / true[present])),
        "mean_iou": float(np.mean(right[present] / (true + found - right)[present])),
    }


class Segmenter:
    """Function of a uint8 photograph (H, W, 3) to its class ids (H, W), computed by a SavedModel.

    The SavedModel takes float32 images (N, H, W, 3) in [-1, 1] and returns scores (N, h, w, 19) of the classes in the
    order of their training ids. The class ids are enlarged to the size of the photograph.

    Raises:
      UserError: `path` is not a SavedModel with one input and one output, or its scores have another shape or are not
        finite.
    """

    def __init__(self, path: str) -> None:
        self._network = saved_model.open_saved_model(path, f"--segmenter={path}")
        self._path = path

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        try:
            found = self._network(ranges.to_float(image)[np.newaxis]).numpy()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            if exhaustion.is_exhausted(error):
                raise
            raise UserError(f"--segmenter={self._path} fails on an image of {width} x {height} pixels "
                            f"({get_first_line(error)}); give a SavedModel that takes images of any size") from error
        if found.ndim != 4 or found.shape[-1] != VOID:
            raise UserError(f"--segmenter={self._path} returns shape {found.shape}; expected scores (1, h, w, {VOID})")
        if not np.isfinite(found).all():
            raise UserError(f"--segmenter={self._path} returns scores that are not finite; give another SavedModel")
        ids = found[0].argmax(axis=-1)
        return ids[np.arange(height)[:, None] * ids.shape[0] // height, np.arange(width) * ids.shape[1] // width]
