"""The table that a run logs at its start: data, networks, device, length, learning rate and disk."""

import itertools
import os
import shutil
import textwrap
from collections.abc import Iterator

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.config.domains import find_names
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.images import headers
from cyclegan_tf.models.base import Model
from cyclegan_tf.ops import hardware
from cyclegan_tf.runs import model_state
from cyclegan_tf.storage import filesystem
from cyclegan_tf.training import schedules
from cyclegan_tf.training.cadence import Cadence
from cyclegan_tf.training.run import Run

_LINE = 100  # Characters.
_N_MEASURED = 3  # Images of each domain whose size is read.


def describe_run(run: Run, step: int) -> list[str]:
    """Describes the data, networks, device and length of a run, in lines of at most 100 characters.

    Args:
      step: steps done.
    """
    config, dataset, cadence = run.config, run.dataset, run.plan()
    rows = {
        "data": _describe_training(config, dataset),
        "held out": _describe_held_out(dataset),
        "left out": _describe_left_out(config, dataset),
        "inputs": _describe_inputs(config),
        "ranges": _describe_ranges(config),
        "networks": _describe_networks(config, run.model),
        "device": _describe_device(config, run.replicas.count),
        "length": _describe_length(cadence, step),
        "rate": _describe_learning_rate(config, cadence, run.replicas.count),
        "disk": _describe_disk(run),
    }
    lines = []
    for name, text in rows.items():
        if text:
            lines += textwrap.wrap(  # A path with hyphens stays in one piece.
                text, _LINE, initial_indent=f"{name:10}", subsequent_indent=" " * 10, break_on_hyphens=False
            )
    return lines


def _describe_training(config: Config, dataset: ImageDataset) -> str:
    lists, names = (dataset.train_a, dataset.train_b), find_names(config)
    if dataset.stream is not None:
        counts = [str(dataset.stream_size) if dataset.stream_size else "a stream of"] * 2
    else:
        counts = [f"{len(images):,}" for images in lists]
    domains = [
        f"{domain}{f' ({name})' if name != domain else ''}: {count} images{_describe_sizes(images)}"
        for domain, name, count, images in zip("AB", names, counts, lists, strict=True)
    ]
    return "; ".join(domains) + ("; trains on pairs" if config.trains_on_pairs else "")


def _describe_sizes(images: ImageList) -> str:
    """Describes the sizes of up to three images as the end of a phrase; empty if no image can be read."""
    sizes = sorted(set(_read_sizes(images)))
    if not sizes:
        return ""
    texts = [f"{width} x {height}" for height, width in sizes]
    return f", {texts[0]} px" if len(texts) == 1 else f", such as {', '.join(texts[:-1])} and {texts[-1]} px"


def _read_sizes(images: ImageList) -> Iterator[tuple[int, int]]:
    """Yields (height, width) of the first, the middle and the last image; skips images that cannot be read."""
    for index in sorted({i * (len(images) - 1) // (_N_MEASURED - 1) for i in range(_N_MEASURED)}):
        try:
            piece = images.read_slice(index)
            height, width = piece.pixels.shape[:2] if piece else headers.read_size(images.read(index))
        except (ValueError, OSError, MemoryError):  # Training reports bad images.
            continue
        yield height, width // 2 if images.half else width


def _describe_held_out(dataset: ImageDataset) -> str:
    counts = [f"A: {len(dataset.test_a):,}", f"B: {len(dataset.test_b):,}"]
    pairs = f"{dataset.n_pairs:,} of each are pairs" if dataset.n_pairs and dataset.test_a else "no pairs"
    return "; ".join([*counts, pairs])


def _describe_left_out(config: Config, dataset: ImageDataset) -> str:
    limit = config.max_dataset_size
    # The limit has been applied, so only a part with exactly this many images may have lost some.
    cut = limit and any(len(part) == limit for part in dataset.parts.values())
    found = [f"all but the first {limit} images of each part"] if cut else []
    if dataset.bad:
        found.append(f"{len(dataset.bad)} images that cannot be used, see bad_images.txt")
    return "; ".join(found)


def _describe_inputs(config: Config) -> str:
    resized = config.preprocess not in ("crop", "none")
    return "; ".join(filter(None, [
        f"{config.preprocess.replace('_and_', ', ')}", f"load size {config.load_size} px" if resized else "",
        f"{config.crop} crops of {config.crop_size} px" if config.crops else "",
        "half of them mirrored" if config.flip else "",
    ]))


def _describe_ranges(config: Config) -> str:
    """Describes the value range of each domain and the window that pictures show; empty if no domain has a range."""
    if not (config.range_a or config.range_b):
        return ""
    parts = []
    for domain in DOMAINS:
        text, window = getattr(config, f"range_{domain}"), config.get_window(domain)
        request, _, measured = text.partition("=")
        found = f"{measured} ({request})" if measured else text or "given by the type of its files"
        parts.append(f"{domain.upper()}: {found}" + (f", pictures show {window}" if window and text else ""))
    return "; ".join(parts)


def _describe_networks(config: Config, model: Model) -> str:
    groups: dict[tuple[str, int], list[str]] = {}
    for name, network in model.networks.items():
        kind = ""
        if name in (*model.generator_names, *model.discriminator_names):
            kind = f" ({config.generator if name in model.generator_names else config.discriminator})"
        groups.setdefault((kind, network.count_params()), []).append(name)
    return "; ".join(
        f"{', '.join(names)}{kind}: {count:,} parameters{' each' if len(names) > 1 else ''}"
        for (kind, count), names in groups.items()
    )


def _describe_device(config: Config, n_replicas: int) -> str:
    parts = [hardware.describe_gpus() or f"CPU with {os.cpu_count()} cores"]
    if config.mixed_precision != "none":
        parts.append(f"{config.mixed_precision} inside the networks")
    if n_replicas > 1:
        parts.append(f"{n_replicas} replicas")
    return "; ".join(parts)


def _describe_length(cadence: Cadence, step: int) -> str:
    epochs = cadence.n_steps * cadence.images_per_step / cadence.images_per_epoch
    length = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
    images = f"{cadence.images_per_step} image{'s' * (cadence.images_per_step > 1)} of each domain"
    done = f"; {step:,} are done" if step else ""
    return f"{cadence.n_steps:,} steps of {images}, {length} epoch{'s' * (length != '1')}{done}"


def _describe_learning_rate(config: Config, cadence: Cadence, n_replicas: int) -> str:
    first, last = (
        schedules.compute_learning_rate(config, done, cadence.count_epochs(done), n_replicas)
        for done in (0, cadence.n_steps - 1)
    )
    return f"{first:.3g} in the first step, {last:.3g} in the last (--lr_policy={config.lr_policy})"


def _describe_disk(run: Run) -> str:
    count = run.config.keep_checkpoints + bool(run.config.keep_best)  # best.npz is one more.
    size = format_bytes(_estimate_checkpoint(run))
    text = f"{count} checkpoint{'s' * (count > 1)} of {size}"
    if filesystem.is_remote(run.workdir):
        return text
    path = os.path.abspath(run.workdir)
    parents = itertools.accumulate(itertools.repeat(path), lambda path, _: os.path.dirname(path))
    folder = next(filter(os.path.isdir, parents))
    return f"{text} in {run.workdir}; {format_bytes(shutil.disk_usage(folder).free)} are free"


def _estimate_checkpoint(run: Run) -> int:
    """Estimates the bytes of a checkpoint with full image pools; ignores the pools if image sizes vary."""
    config, model = run.config, run.model
    size = model_state.measure_variables(model)
    if model.pool_names and config.pool_size and config.crops:
        square = (1, config.crop_size, config.crop_size)
        shapes = model.get_pool_shapes((*square, config.input_channels), (*square, config.output_channels))
        one_image = sum(4 * int(np.prod(shapes[name])) for name in model.pool_names)
        size += one_image * config.pool_size * run.replicas.count
    return size


def format_bytes(count: float) -> str:
    """Formats a number of bytes, such as 0.3 MB, 12 MB or 3.4 GB; 1 MB is 10^6 bytes."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:.{0 if count >= 1e7 else 1}f} MB"
