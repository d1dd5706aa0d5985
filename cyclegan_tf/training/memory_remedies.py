"""Advice for a user whose training exhausts the memory."""

import dataclasses
from typing import Any

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError


def describe_for_steps(config: Config) -> str:
    """Advises how a training step can take less memory."""
    lower = ["--crop_size"] if config.crops else ["--load_size"] if config.preprocess != "none" else []
    lower += ["--batch_size"] if config.batch_size > 1 else []
    lower += ["--ngf"]
    add = ["--recompute"] if not config.recompute and _accepts(config, recompute=True) else []
    if config.mixed_precision == "none" and _accepts(config, mixed_precision="bfloat16"):
        add.append("--mixed_precision=bfloat16")
    instruction = f"start a new run with a lower {' or '.join(lower)}"
    if config.preprocess == "none":
        instruction += ", with smaller images"
    return instruction + (f", or with {' or '.join(add)}" if add else "")


def describe_for_images(config: Config) -> str:
    """Advises how the translation of a held-out image can take less memory."""
    if config.preprocess == "resize_and_crop":
        return "start a new run with a lower --crop_size or --ngf"
    return "use smaller held-out images, or start a new run with a lower --ngf"


def _accepts(config: Config, **options: Any) -> bool:
    try:
        dataclasses.replace(config, **options)
    except UserError:
        return False
    return True
