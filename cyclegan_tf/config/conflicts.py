"""Combinations of options that cannot work, each with the line that tells the user so."""


def conflicts(config):
    """[(whether `config` has the conflict, the message that names the flags)]; `config` is a `Config`."""
    return [*_of_sizes(config), *_of_networks(config), *_of_the_objective(config), *_of_pix2pix(config),
            *_of_measuring(config)]


def _of_sizes(config):
    sizes_differ = f"--preprocess={config.preprocess} gives images of different sizes"
    return [
        (config.crops and config.preprocess != "crop" and config.load_size < config.crop_size,
         f"--load_size={config.load_size} is smaller than --crop_size={config.crop_size}: crops would not fit; "
         "raise load_size or lower crop_size"),
        (not config.crops and (config.batch_size > 1 or config.pool_size > 0),
         f"{sizes_differ}, which needs --batch_size=1 --pool_size=0"),
        (not config.crops and config.crop == "center",
         f"--crop=center: --preprocess={config.preprocess} does not crop; use one that does"),
        (not config.max_steps and not config.n_epochs + config.n_epochs_decay,
         "nothing to train: --n_epochs, --n_epochs_decay and --max_steps are all 0"),
    ]


def _of_networks(config):
    return [
        (config.gan_mode == "wgangp" and config.norm == "batch",
         "--gan_mode=wgangp penalizes the gradient of each image, --norm=batch mixes them: use another norm"),
        (config.norm_affine and config.norm != "instance",
         f"--norm_affine is for --norm=instance; --norm={config.norm} is the same without it"),
        (config.gan_mode == "wgangp" and config.mixed_precision == "float16",
         "--gan_mode=wgangp has a gradient in its loss, which --mixed_precision=float16 does not scale: use bfloat16"),
        (config.recompute and (config.dropout or config.norm == "batch"),
         "--recompute runs layers twice: --dropout would draw, and --norm=batch count, another time; use neither"),
        (config.jit_compile == "on" and not config.crops,
         f"--jit_compile=on compiles anew for each size of image, and --preprocess={config.preprocess} has many"),
        (config.ema_decay >= 1, f"--ema_decay={config.ema_decay} must be below 1"),
    ]


def _of_the_objective(config):
    channels = f"--input_channels={config.input_channels} and --output_channels={config.output_channels}"
    return [
        (config.model == "cyclegan" and config.identity_mode == "same" and config.lambda_identity
         and config.input_channels != config.output_channels,
         f"{channels} differ: the identity loss gives a generator images of its own output; use --lambda_identity=0"),
        (config.identity_mode == "cross" and not config.lambda_identity,
         "--identity_mode=cross is a kind of identity loss, which --lambda_identity=0 turns off"),
        (config.label_smoothing and config.gan_mode not in ("lsgan", "vanilla"),
         f"--gan_mode={config.gan_mode} has no labels to smooth: use --label_smoothing=0"),
        (config.label_smoothing >= 1, f"--label_smoothing={config.label_smoothing} must be below 1"),
        (config.disc_learning_rate and not config.learning_rate,
         "--disc_learning_rate follows the schedule of --learning_rate, which must not be 0"),
    ]


def _of_pix2pix(config):
    pix2pix = config.model == "pix2pix"
    return [
        (pix2pix and (config.gan_mode == "wgangp" or config.ema_decay),
         "--model=pix2pix has neither --gan_mode=wgangp nor --ema_decay"),
        (pix2pix and (config.identity_mode, config.generator_loss, config.cycle_loss) != ("same", "joint", "l1"),
         "--model=pix2pix has one generator and no cycle: it takes none of --identity_mode, --generator_loss and "
         "--cycle_loss"),
    ]


def _of_measuring(config):
    return [
        (config.keep_best and not config.eval_every,
         f"--keep_best={config.keep_best} needs --eval_every, the steps between measurements"),
        (config.patience and not config.keep_best,
         f"--patience={config.patience} needs --keep_best, the measure that should get better"),
    ]
