"""The options of a run: their names, default values, valid values and help texts."""

import dataclasses
import functools
from typing import Literal

from cyclegan_tf.config import plugins as plugin_modules
from cyclegan_tf.config import registries
from cyclegan_tf.config.options import option, require_names
from cyclegan_tf.config.value_ranges import parse_range, parse_window

TFDS_NAMES = (
    "apple2orange", "facades", "horse2zebra", "iphone2dslr_flower", "maps", "monet2photo", "summer2winter_yosemite",
    "cezanne2photo", "ukiyoe2photo", "vangogh2photo",
)
# The value of --dataset in a run whose images were given to `cyclegan_tf.fit`.
GIVEN_DATASET = "given_to_fit"
# The value of --dataset in a run that was converted from .pth files, which do not name their data set.
CONVERTED_DATASET = "converted_from_pytorch"
# The measures of `metrics.measures` that need no further options.
EVAL_METRICS = ("ms_ssim", "l1", "mae", "psnr_range", "lpips", "lpips_vgg", "fid", "kid", "identity")
# The functions of `models.diff_augment`.
AUGMENTATIONS = ("color", "translation", "cutout")
SliceAxis = Literal["axial", "coronal", "sagittal"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The fields of `Config`, which fills in the default values and validates all values."""

    plugins: str = option(
        "", "modules to import first, separated by commas, because they register generators, discriminators, losses or "
        "models (docs/extending.md); the current folder and the installed packages are searched", may_differ=True,
        is_list=True, check=plugin_modules.parse_names, section="The model and its training images",
    )
    model: str = option(
        "cyclegan", "what to train: cyclegan translates both ways and needs no pairs; pix2pix is its supervised "
        "counterpart, which translates A to B and needs pairs; cut and the faster fastcut (Park et al. 2020) translate "
        "A to B, need no pairs and have one generator", registry=registries.MODELS,
    )
    dataset: str = option(
        "demo", "training images: demo and demo_maps (parts of the package), demo_pairs (the held-out pairs of "
        "demo_maps as a data set of their own), a folder or .zip file with subfolders trainA and trainB (and testA and "
        "testB for held-out images), a folder or .zip file with a subfolder train of files that show A and B side by "
        "side (as the pix2pix sets do), a folder of shards, or one of: " + ", ".join(TFDS_NAMES), is_path=True,
    )
    data_dir: str = option(
        "", "folder of downloaded archives (NAME.zip) and prepared TFDS data sets; if empty, ~/tensorflow_datasets",
        may_differ=True, per_machine=True, is_path=True,
    )
    direction: Literal["a2b", "b2a"] = option(
        "a2b", "b2a swaps the domains: A is then trainB, or the right half of side-by-side images",
    )
    name_a: str = option(
        "", "name of domain A in pictures and on pages, such as horse; if empty, taken from the name of a data set "
        "like horse2zebra, else A", may_differ=True,
    )
    name_b: str = option(
        "", "name of domain B in pictures and on pages, such as zebra; if empty, as for name_a", may_differ=True,
    )
    max_dataset_size: int = option(
        0, "largest number of images of each domain to use, the first by name; 0: all", minimum=0
    )
    paired: Literal["auto", "yes", "no"] = option(
        "auto", "whether the held-out images testA and testB are pairs, to which PSNR and other measures compare "
        "translations: auto takes them as pairs if each file has a counterpart of the same name, whose suffix may "
        "differ; yes uses the files that have counterparts; no never takes them as pairs. pix2pix trains on pairs",
        may_differ=True,
    )
    input_channels: int = option(
        3, "channels of the images of domain A: 1 for gray, 3 for color, other numbers for .npy and TIFF files",
        minimum=1, maximum=4096,
    )
    output_channels: int = option(
        3, "channels of the images of domain B: 1 for gray, 3 for color, other numbers for .npy and TIFF files",
        minimum=1, maximum=4096,
    )
    range_a: str = option(
        "", "values of domain A that stand for black and white, in the unit of the files: LOW,HIGH, as in -1024,3071, "
        "or percentile:LOW,HIGH, as in percentile:1,99, which measures the training images once; values outside are "
        "clipped. If empty, the files define the range: 8 bits, 16 bits, or floats in [-1, 1]",
        check=parse_range,
    )
    range_b: str = option("", "values of domain B that stand for black and white, as range_a", check=parse_range)
    window: str = option(
        "", "values that pictures show as black to white, in the unit of range_a and range_b: CENTER,WIDTH, or "
        "CENTER,WIDTH/CENTER,WIDTH for A and B; if empty, the whole range", may_differ=True, check=parse_window,
    )
    slice_axis: SliceAxis = option(
        "axial", "direction of the slices of NIfTI volumes, whatever the order of their voxels",
    )
    volume: int = option(
        0, "which volume of a 4-D NIfTI file to use, counted from 1; 0: 4-D files are an error", minimum=0,
    )
    min_content: float = option(
        0.01, "smallest share of a NIfTI slice's pixels that must be brighter than a tenth of the volume's range; "
        "darker slices are taken as background and left out of training and measuring. The slices of A decide for "
        "pairs; 0: use all slices", minimum=0, below=1,
    )
    on_bad_image: Literal["skip", "error"] = option(
        "skip", "what to do with an image that cannot be read: skip leaves the image out (training lists it in "
        "bad_images.txt); error stops at the first one", may_differ=True,
    )
    allow_changed_data: bool = option(
        False, "resume a run even if training images were added, removed or renamed since its newest checkpoint, which "
        "is otherwise an error", may_differ=True,
    )
    preprocess: Literal[
        "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside", "scale_shortside_and_crop",
        "none",
    ] = option(
        "resize_and_crop", "how images become inputs of the networks: resize makes a square of load_size; scale_width "
        "and scale_shortside scale the width or the shorter side to load_size and keep the aspect ratio, but "
        "scale_width, like the authors' code, stretches images to a height of at least crop_size; crop cuts out a "
        "square of crop_size; none keeps the size. Modes without a crop round sizes to what the generator accepts",
    )
    load_size: int = option(
        286, "side in pixels to which --preprocess resizes or scales images", minimum=4, maximum=2**16
    )
    crop_size: int = option(
        256, "side of the square crops that the networks are trained on, in pixels", minimum=4, maximum=2**16
    )
    crop: Literal["random", "center"] = option("random", "where training crops are cut out")
    flip: bool = option(True, "mirror half of the training images left to right, chosen at random")
    cache: Literal["auto", "memory", "off"] = option(
        "auto", "where decoded and resized training images are kept: memory keeps all of them; auto keeps them if the "
        "domain takes at most 2 GiB; off decodes them every time", may_differ=True, per_machine=True,
    )

    generator: str = option(
        "resnet", "architecture of the generators: resnet and unet are the authors'; unet_reflect is a U-Net with "
        "reflection padding; unet_full also has a skip connection at full size; experiments/README.md describes "
        "torchgan, tf_blog and unet_book",
        registry=registries.GENERATORS, section="The networks",
    )
    discriminator: str = option(
        "patch", "architecture of the discriminators: patch (PatchGAN) and pixel are the authors'; "
        "experiments/README.md describes torchgan, tf_blog, patch_mean and unet_book",
        registry=registries.DISCRIMINATORS,
    )
    ngf: int = option(64, "filters in the first layer of the generators", minimum=1, maximum=1024)
    ndf: int = option(64, "filters in the first layer of the discriminators", minimum=1, maximum=1024)
    n_blocks: int = option(
        9, "residual blocks of a ResNet generator; the paper uses 9 at 256 px and 6 at 128 px", minimum=1, maximum=1000,
    )
    n_downs: int = option(
        8, "downsampling levels of a U-Net generator; 7 makes the authors' unet_128, 8 their unet_256", minimum=5,
        maximum=16,
    )
    n_layers: int = option(
        3, "stride-2 layers of the patch discriminator; 3 makes a receptive field of 70x70 px", minimum=1, maximum=12,
    )
    norm: Literal["instance", "batch", "none"] = option("instance", "normalization layers of the networks")
    norm_affine: bool = option(
        False, "learn a scale and an offset in each instance norm; batch norms always learn them"
    )
    padding: Literal["reflect", "replicate", "zero"] = option("reflect", "padding in the residual blocks")
    dropout: bool = option(
        False, "apply dropout with rate 0.5 in the generators; a U-Net needs --n_downs=6 or more for it"
    )
    upsample: Literal["transpose", "resize_conv"] = option(
        "transpose", "upsampling in the generators: the authors' transposed convolution, or nearest-neighbor resize "
        "and convolution, which avoids checkerboard artifacts",
    )
    antialias: Literal["none", "down", "up", "both"] = option(
        "none", "blur before each change of size, as the networks of CUT do: down in the ResNet generators' and the "
        "patch discriminators' downsampling, up in the generators' upsampling",
    )
    initialization: Literal["normal", "xavier"] = option(
        "normal", "distribution of the initial weights: normal has a standard deviation of 0.02, xavier one that "
        "depends on the layer's number of inputs and outputs, as in CUT",
    )

    gan_mode: str = option(
        "lsgan", "adversarial loss: lsgan is least squares; vanilla is cross-entropy; wgangp is Wasserstein with a "
        "gradient penalty; hinge is the hinge loss", registry=registries.LOSSES, section="The objective",
    )
    label_smoothing: float = option(
        0.0, "the discriminators' target for real images is 1 minus this value; for --gan_mode=lsgan and vanilla",
        minimum=0, below=1,
    )
    generator_loss: Literal["joint", "separate"] = option(
        "joint", "joint: both generators minimize the sum of all their losses, as in the paper; separate: each "
        "generator minimizes only the adversarial, cycle and identity losses of its output domain",
    )
    cycle_loss: Literal["l1", "l2"] = option("l1", "distance in the cycle losses; DiscoGAN uses l2")
    lambda_a: float = option(10.0, "weight of the cycle loss A -> B -> A", minimum=0)
    lambda_b: float = option(10.0, "weight of the cycle loss B -> A -> B", minimum=0)
    lambda_identity: float = option(
        0.5, "weight of the identity losses relative to lambda_a and lambda_b; 0: no identity loss", minimum=0
    )
    identity_mode: Literal["same", "cross"] = option(
        "same", "identity loss: same requires a generator to keep images of its output domain; cross compares a "
        "translation with the other image of the pair, and needs files of equal names in trainA and trainB",
    )
    lambda_nce: float = option(1.0, "weight of the contrastive loss of cut and fastcut", minimum=0)
    nce_identity: bool = option(
        True, "for cut and fastcut: the contrastive loss is the mean of the loss of a translation and the loss of a "
        "real image B that passes through the generator",
    )
    flip_equivariance: bool = option(
        False, "for cut and fastcut: mirror the generator's input in half of the steps, chosen at random, and mirror "
        "its features back before they are compared",
    )
    nce_layers: str = option(
        "", "layers of the generator whose outputs cut and fastcut compare, separated by commas; if empty, the layers "
        "that the generator registers: for resnet and torchgan, the padded image, the two downsampling convolutions, "
        "and the residual blocks 1 and 5 (the last, if there are fewer)",
        is_list=True,
    )
    nce_patches: int = option(256, "patches of each layer that cut and fastcut compare", minimum=1)
    nce_features: int = option(
        256, "features of a patch in the contrastive loss of cut and fastcut", minimum=1, maximum=2**16
    )
    nce_temperature: float = option(0.07, "temperature of the contrastive loss of cut and fastcut", minimum=1e-3)
    diff_augment: str = option(
        "", "differentiable augmentation (Zhao et al. 2020) of the images that the discriminators see, for training on "
        "few images: any of " + ", ".join(AUGMENTATIONS) + ", separated by commas; applied in that order",
        is_list=True, check=functools.partial(require_names, known=AUGMENTATIONS, unique=True),
    )
    lambda_l1: float = option(100.0, "weight of the L1 loss of pix2pix", minimum=0)
    pool_size: int = option(
        50, "size of each image pool; the discriminators learn from current fakes and, half of the time, from earlier "
        "ones out of the pool; 0: only from current fakes", minimum=0,
    )

    batch_size: int = option(
        1, "images of each domain per step and replica (GPU)", minimum=1, section="The optimization"
    )
    n_epochs: int = option(
        100, "epochs at the full learning rate; an epoch is one pass over the larger domain", minimum=0, may_differ=True
    )
    n_epochs_decay: int = option(
        100, "further epochs, over which --lr_policy=linear lowers the learning rate to zero", minimum=0,
        may_differ=True,
    )
    max_steps: int = option(
        0, "length of the run in steps instead of epochs; n_epochs and n_epochs_decay then only set which share of the "
        "run has the full learning rate, and lr_decay_every is a share of their sum; 0: use epochs", minimum=0,
        may_differ=True,
    )
    learning_rate: float = option(2e-4, "initial learning rate of Adam, for all networks", minimum=0)
    disc_learning_rate: float = option(
        0.0, "initial learning rate of the discriminators (Heusel et al. 2017); 0: the same as --learning_rate",
        minimum=0,
    )
    lr_policy: Literal["linear", "step", "cosine", "constant"] = option(
        "linear", "learning rate over the run: linear is constant for n_epochs and then falls to zero; step multiplies "
        "by 0.1 every lr_decay_every epochs; cosine follows half a wave down to zero",
    )
    lr_decay_every: int = option(
        50, "epochs between the drops of --lr_policy=step; with max_steps, scaled by max_steps / (n_epochs + "
        "n_epochs_decay): by default a quarter of the run; steps if n_epochs and n_epochs_decay are 0", minimum=1,
    )
    scale_learning_rate: Literal["none", "linear", "sqrt"] = option(
        "none", "multiply the learning rates by the number of replicas (linear) or by its square root (sqrt)",
    )
    beta_1: float = option(0.5, "Adam's decay rate of the mean gradient", minimum=0, below=1)
    beta_2: float = option(0.999, "Adam's decay rate of the mean squared gradient", minimum=0, below=1)
    ema_decay: float = option(
        0.0, "decay rate of a moving average of the generators' weights, which samples, evaluation and exports then "
        "use; 0: no average", minimum=0, below=1,
    )
    init_from: str = option(
        "", "where a new run takes its initial network weights from: a run directory, one of its checkpoint files, "
        "demo or demo_maps (trained runs in the package), a SavedModel, a .pth file or a folder of .pth files; "
        "optimizers and image pools start fresh. A SavedModel is a program: loading one from a stranger runs it",
        is_path=True,
    )
    on_nonfinite: Literal["stop", "rollback"] = option(
        "stop", "what to do when a loss is NaN or infinite: stop ends the run; rollback restores the newest checkpoint "
        "and resumes with the images that come next", may_differ=True,
    )

    mixed_precision: Literal["none", "bfloat16", "float16"] = option(
        "none", "data type inside the networks during training: none is float32; float16 uses a loss scale. Weights, "
        "losses, checkpoints and exports are always float32", section="Precision, devices and speed",
    )
    recompute: bool = option(
        False, "save memory: keep only the outputs of the generators' residual blocks and recompute the rest in the "
        "backward pass. Costs one more forward pass; results differ only by rounding",
    )
    jit_compile: Literal["auto", "on", "off"] = option(
        "auto", "compile the training step with XLA: auto compiles on one GPU if all images have a fixed size (a "
        "--preprocess mode that crops) and is off elsewhere. Compiling delays the first step by a minute or more; "
        "later steps are faster on a GPU and slower on a CPU",
    )
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = option(
        "auto", "devices to train on: mirrored has a replica on each GPU of this machine; multi_worker has one on each "
        "GPU of all workers in TF_CONFIG; auto takes multi_worker if TF_CONFIG names several workers, mirrored if "
        "there are several GPUs, one_device otherwise", may_differ=True,
    )
    worker_timeout: int = option(
        60, "seconds without a step after which a worker of a multi_worker run gives up; 0: never", minimum=0,
        may_differ=True,
    )
    deterministic: bool = option(
        False, "use only operations whose results do not depend on timing; slower on a GPU, without effect on a CPU; "
        "in Python, all later runs of the same process are deterministic, too"
    )
    seed: int = option(
        0, "seed of the initial weights, the order of the images, the augmentation and the image pools", minimum=0,
        maximum=2**32 - 1,
    )

    log_every: int = option(
        50, "steps between lines of metrics.jsonl and TensorBoard scalars; 0: only at the end", minimum=0,
        may_differ=True, section="Outputs and their cadence",
    )
    sample_every: int = option(1000, "steps between sample grids; 0: only at the end", minimum=0, may_differ=True)
    checkpoint_every: int = option(1000, "steps between checkpoints; 0: only at the end", minimum=0, may_differ=True)
    sample_epochs: int = option(
        0, "epochs between additional sample grids; 0: no additional ones", minimum=0, may_differ=True
    )
    checkpoint_epochs: int = option(
        0, "epochs between additional checkpoints; 0: no additional ones", minimum=0, may_differ=True
    )
    eval_every: int = option(
        0, "steps between evaluations on the held-out images; 0: only at the end", minimum=0, may_differ=True
    )
    eval_metrics: str = option(
        "", "measures to evaluate in addition to the standard ones (PSNR and SSIM if the held-out images are pairs, "
        "cycle errors otherwise), separated by commas: " + ", ".join(EVAL_METRICS) + ". lpips, fid and kid need "
        "weights that cyclegan evaluate --fetch_weights downloads", may_differ=True,
        is_list=True, check=functools.partial(require_names, known=EVAL_METRICS),
    )
    keep_best: str = option(
        "", "measure, such as psnr_ab or kid_ab; the checkpoint with its best value is kept as checkpoints/best.npz"
    )
    patience: int = option(
        0, "end the run after this many evaluations in a row that do not improve --keep_best; 0: never", minimum=0,
        may_differ=True,
    )
    keep_checkpoints: int = option(3, "number of checkpoints to keep, the newest ones", minimum=1, may_differ=True)
    n_samples: int = option(4, "rows in a sample grid", minimum=1, may_differ=True)


# The declarations of the options by name, in their order.
FIELDS = {field.name: field for field in dataclasses.fields(RunOptions)}
