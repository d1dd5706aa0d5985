"""Every option of a run in one frozen dataclass, and its way to config.json. Imports no TensorFlow."""

import dataclasses
import json
import os
import zlib

from cyclegan_tf.config import conflicts
from cyclegan_tf.config.options import check, option
from cyclegan_tf.config.presets import PRESETS
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import atomic, filesystem

TFDS_NAMES = (
    "apple2orange", "facades", "horse2zebra", "iphone2dslr_flower", "maps", "monet2photo", "summer2winter_yosemite",
    "cezanne2photo", "ukiyoe2photo", "vangogh2photo",
)
# Of `metrics.measures` those that need no options of their own.
EVAL_METRICS = ("ms_ssim", "l1", "lpips", "lpips_vgg", "fid", "kid", "identity")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of a training run; the defaults are those of the CycleGAN authors' code (Zhu et al. 2017, section 7).

    Sizes are in pixels, cadences in steps. `max_steps` and `seed` aside, a value of 0 for a cadence means "only at the
    end". Fields marked `may_differ` may change when a run is resumed; all others decide the numbers and must match.

    Raises:
      UserError: a value outside its range, or a combination that cannot work; the message names the flags.
    """

    # What to train, and on what.
    model: str = option(
        "cyclegan", "cyclegan, or pix2pix: its supervised counterpart A -> B on pairs, with an L1 loss",
        choices=("cyclegan", "pix2pix"),
    )
    dataset: str = option(
        "demo", "demo, demo_pairs (its held-out pairs as a set), a folder or .zip with trainA and trainB, one with "
        "train (images A and B side by side, as the pix2pix sets have), a folder of shards, or one of: "
        + ", ".join(TFDS_NAMES),
    )
    data_dir: str = option(
        "", "folder of downloaded archives (NAME.zip) and prepared TFDS sets; default ~/tensorflow_datasets",
        may_differ=True,
    )
    direction: str = option(
        "a2b", "b2a swaps the domains: A is then trainB, or the right half", choices=("a2b", "b2a"),
    )
    max_dataset_size: int = option(0, "images of each domain that are used, the first by name; 0: all", minimum=0)
    input_channels: int = option(3, "channels of domain A: 1 gray, 3 color, others from .npy files", minimum=1)
    output_channels: int = option(3, "the same of domain B", minimum=1)
    on_bad_image: str = option(
        "skip", "skip leaves out images that cannot be read and names them in bad_images.txt, error stops at the first",
        choices=("skip", "error"), may_differ=True,
    )
    preprocess: str = option(
        "resize_and_crop", "how images become what the networks see: resize to load_size squares; scale the width or "
        "the shorter side to load_size; a random crop of crop_size, with one of these or alone. Without crop (none: as "
        "they are) sizes are rounded to what the network takes",
        choices=("resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside",
                 "scale_shortside_and_crop", "none"),
    )
    load_size: int = option(286, "side that images are resized to before the random crop", minimum=4)
    crop_size: int = option(256, "side of the square crops that the networks see", minimum=4)
    crop: str = option("random", "where crops are cut: random or center", choices=("random", "center"))
    flip: bool = option(True, "mirror images at random, left to right")
    cache: str = option(
        "auto", "keep decoded, resized images in memory: auto does with a domain that takes less than 2 GiB",
        choices=("auto", "memory", "off"), may_differ=True,
    )

    # The networks.
    generator: str = option(
        "resnet", "generator architecture: the authors' resnet and unet; the others are those of experiments/README.md",
        choices=("resnet", "unet", "torchgan", "tf_blog", "unet_book"),
    )
    discriminator: str = option(
        "patch", "discriminator architecture: the authors' patch and pixel; the others as for the generator",
        choices=("patch", "pixel", "torchgan", "tf_blog", "patch_mean", "unet_book"),
    )
    ngf: int = option(64, "filters in the generator's first layer", minimum=1)
    ndf: int = option(64, "filters in the discriminator's first layer", minimum=1)
    n_blocks: int = option(9, "residual blocks of the ResNet generator (paper: 9 at 256 px, 6 at 128 px)", minimum=1)
    n_downs: int = option(8, "levels of the U-Net generator: 7 is unet_128, 8 is unet_256", minimum=5)
    n_layers: int = option(3, "stride-2 layers of the patch discriminator; 3 sees 70x70 px patches", minimum=1)
    norm: str = option("instance", "normalization layers", choices=("instance", "batch", "none"))
    norm_affine: bool = option(False, "learned scale and offset in the instance norms; batch norms always have them")
    padding: str = option("reflect", "padding in residual blocks", choices=("reflect", "replicate", "zero"))
    dropout: bool = option(False, "dropout 0.5 in the generator")
    upsample: str = option(
        "transpose", "generator's up-sampling: the authors' transposed convolution, or nearest-neighbour resize and "
        "convolution, which leaves no checkerboard", choices=("transpose", "resize_conv"),
    )

    # The objective.
    gan_mode: str = option(
        "lsgan", "adversarial loss; wgangp includes its gradient penalty",
        choices=("lsgan", "vanilla", "wgangp", "hinge"),
    )
    label_smoothing: float = option(
        0.0, "the discriminators' target for real images is 1 minus this; with --gan_mode lsgan or vanilla", minimum=0,
    )
    generator_loss: str = option(
        "joint", "joint: one sum for both generators, the paper's; separate: each learns from the adversarial, cycle "
        "and identity terms of its output domain alone", choices=("joint", "separate"),
    )
    cycle_loss: str = option("l1", "distance in the cycle losses: l1, or l2, DiscoGAN's", choices=("l1", "l2"))
    lambda_a: float = option(10.0, "weight of the cycle loss A -> B -> A", minimum=0)
    lambda_b: float = option(10.0, "weight of the cycle loss B -> A -> B", minimum=0)
    lambda_identity: float = option(0.5, "identity loss, as a share of lambda_a and lambda_b; 0: none", minimum=0)
    identity_mode: str = option(
        "same", "same: a generator shall keep images of its output domain; cross: its translation shall be the other "
        "image of the pair, which needs trainA and trainB with equal names", choices=("same", "cross"),
    )
    lambda_l1: float = option(100.0, "weight of pix2pix's L1 loss", minimum=0)
    pool_size: int = option(50, "images in each pool of past fakes; 0 feeds the discriminators fresh ones", minimum=0)

    # The optimization.
    batch_size: int = option(1, "images of each domain in a step, on each replica (GPU)", minimum=1)
    n_epochs: int = option(
        100, "epochs at the full learning rate; an epoch is one pass over the larger domain", minimum=0, may_differ=True
    )
    n_epochs_decay: int = option(
        100, "epochs over which the learning rate then falls to zero", minimum=0, may_differ=True
    )
    max_steps: int = option(
        0, "length of the run in steps instead of epochs; the learning rate then falls over the same share of it",
        minimum=0, may_differ=True,
    )
    learning_rate: float = option(2e-4, "Adam's learning rate, of all four networks", minimum=0)
    disc_learning_rate: float = option(
        0.0, "that of the discriminators, where it shall be another (Heusel et al. 2017); 0: the same", minimum=0
    )
    lr_policy: str = option(
        "linear", "learning rate over the run: linear (constant, then falling to zero), step (a tenth every "
        "lr_decay_every epochs), cosine, constant", choices=("linear", "step", "cosine", "constant"),
    )
    lr_decay_every: int = option(50, "epochs (steps with max_steps) between the drops of --lr_policy=step", minimum=1)
    scale_learning_rate: str = option(
        "none", "learning rates times the number of replicas, which is that of batches in a step, or its square root",
        choices=("none", "linear", "sqrt"),
    )
    beta_1: float = option(0.5, "Adam's decay of the mean gradient", minimum=0)
    beta_2: float = option(0.999, "Adam's decay of the mean squared gradient", minimum=0)
    ema_decay: float = option(
        0.0, "decay of a moving average of the generators' weights, used for samples, evaluation and export; 0: none",
        minimum=0,
    )
    init_from: str = option(
        "", "run directory, SavedModel or .pth file (or folder of them) whose networks a new run starts from; "
        "optimizers and pools start fresh"
    )
    on_nonfinite: str = option(
        "stop", "when a loss is NaN or infinite: stop, or rollback: return to the newest checkpoint and go on with the "
        "data that come next", choices=("stop", "rollback"), may_differ=True,
    )
    mixed_precision: str = option(
        "none", "what the networks compute in while they train: bfloat16, float16 (with a loss scale), or none: "
        "float32; weights, losses, checkpoints and exports are float32", choices=("none", "bfloat16", "float16"),
    )
    recompute: bool = option(
        False, "keep only what goes from one residual block of a generator to the next, and compute the rest again for "
        "the gradients: less memory, one more forward pass, the same numbers but for rounding",
    )
    jit_compile: str = option(
        "auto", "compile the training step with XLA: on, off, or auto, which compiles on one GPU; a minute before the "
        "first step, then faster steps on a GPU and slower ones on a CPU", choices=("auto", "on", "off"),
    )
    strategy: str = option(
        "auto", "mirrored: a replica on each GPU; multi_worker: on those of TF_CONFIG's workers; auto: what is there",
        choices=("auto", "one_device", "mirrored", "multi_worker"), may_differ=True,
    )
    worker_timeout: int = option(
        60, "of several workers: seconds without a step after which a worker gives up; 0: never", minimum=0,
        may_differ=True,
    )
    deterministic: bool = option(
        False, "only operations whose results do not depend on timing: a CPU's never do; slower on a GPU"
    )
    seed: int = option(0, "seed of the initial weights, the data order, the augmentation and the pools", minimum=0)

    # What is written, and when.
    log_every: int = option(
        50, "steps between lines of metrics.jsonl and TensorBoard scalars", minimum=0, may_differ=True
    )
    sample_every: int = option(1000, "steps between sample grids", minimum=0, may_differ=True)
    checkpoint_every: int = option(1000, "steps between checkpoints", minimum=0, may_differ=True)
    sample_epochs: int = option(
        0, "sample grids also whenever so many epochs are done; 0: no", minimum=0, may_differ=True
    )
    checkpoint_epochs: int = option(0, "the same for checkpoints", minimum=0, may_differ=True)
    eval_every: int = option(
        0, "steps between measurements of the held-out images; 0: only at the end", minimum=0, may_differ=True
    )
    eval_metrics: str = option(
        "", "measures besides PSNR and SSIM of pairs, or cycle errors, by comma: " + ", ".join(EVAL_METRICS) + "; for "
        "lpips, fid and kid get weights first: python -m cyclegan_tf.evaluate --fetch_weights", may_differ=True,
    )
    keep_best: str = option(
        "", "measure, such as psnr_ab or kid_ab, whose best checkpoint so far is kept as checkpoints/best.npz"
    )
    patience: int = option(
        0, "measurements in which keep_best did not get better, after which the run ends early; 0: never", minimum=0,
        may_differ=True,
    )
    keep_checkpoints: int = option(3, "checkpoints kept, the newest ones", minimum=1, may_differ=True)
    n_samples: int = option(4, "rows of a sample grid", minimum=1, may_differ=True)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check(field, getattr(self, field.name))
        if unknown := [name for name in self.extra_metrics if name not in EVAL_METRICS]:
            raise UserError(f"--eval_metrics={self.eval_metrics}: {unknown[0]} is none of {', '.join(EVAL_METRICS)}")
        for wrong, message in conflicts.conflicts(self):
            if wrong:
                raise UserError(message)

    @property
    def extra_metrics(self):
        """The names in eval_metrics."""
        return [name.strip() for name in self.eval_metrics.split(",") if name.strip()]

    @property
    def directions(self):
        """The directions that the run learns: a2b, and of a CycleGAN b2a."""
        return ("a2b",) if self.model == "pix2pix" else ("a2b", "b2a")

    @property
    def crops(self):
        """Whether all training images become squares of crop_size."""
        return self.preprocess.endswith("crop")

    @property
    def paired(self):
        """Whether a step's images of A and B must be pairs."""
        return self.model == "pix2pix" or self.identity_mode == "cross"

    def fingerprint(self):
        """A number that is the same for configs with the same values of all options that decide a run's numbers."""
        deciding = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.metadata["may_differ"]}
        return zlib.crc32(json.dumps(deciding).encode())

    def to_json(self):
        """The options as an indented JSON object, in the order of their definition."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text, where="config.json"):
        """Reads `to_json`'s text. Options it lacks take their defaults; options it has too many are an error."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where} is not valid JSON ({error}); restore it or use another --workdir") from error
        if not isinstance(values, dict):
            raise UserError(f"{where} holds no JSON object; restore it or use another --workdir")
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise UserError(f"{where} has options this version does not know: {', '.join(unknown)}")
        return cls(**values)

    def save(self, workdir):
        """Writes WORKDIR/config.json."""
        with atomic.open_for_writing(os.path.join(workdir, "config.json")) as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, workdir):
        """Reads WORKDIR/config.json."""
        path = os.path.join(workdir, "config.json")
        if not filesystem.exists(path):
            raise UserError(f"{workdir} is not a run directory: it has no config.json")
        with filesystem.open_for_reading(path) as file:
            return cls.from_json(file.read(), where=path)

    @classmethod
    def preset(cls, name, **overrides):
        """The named preset with `overrides` on top."""
        return cls(**{**PRESETS[name], **overrides})


def difference(old, new):
    """Lines "name: old -> new" for the options that decide a run's numbers and differ between two configs."""
    return [
        f"{field.name}: {getattr(old, field.name)} -> {getattr(new, field.name)}"
        for field in dataclasses.fields(Config)
        if not field.metadata["may_differ"] and getattr(old, field.name) != getattr(new, field.name)
    ]
