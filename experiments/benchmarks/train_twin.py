"""Trains the authors' networks in PyTorch (torch_twin.py) on the batches that cyclegan_tf.train would use.

  python experiments/benchmarks/train_twin.py OUTPUT --flagfile=FILE --max_steps=1000

Takes the flags of cyclegan_tf.train that the twin supports: images, batches, seed and length of the run, --ngf (also of
the discriminators), --n_blocks, --lambda_identity, and the learning rate's schedule. The images, their order, crops and
mirroring are as in cyclegan_tf.train with the same flags; the initial weights and the pools are PyTorch's. Trains on a
GPU if PyTorch sees one. Writes OUTPUT/latest_net_G_A.pth and latest_net_G_B.pth, which cyclegan_tf.convert reads, and
prints the seconds of all steps.
"""

import contextlib
import dataclasses
import os
import random
import sys
import time

import torch
import torch_twin  # Before TensorFlow, see there.

import tensorflow as tf  # isort: skip

from cyclegan_tf.config import Config
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.training import cadence, schedules

# Options that may differ from their defaults.
_SUPPORTED = {
    "dataset", "data_dir", "direction", "max_dataset_size", "preprocess", "load_size", "crop_size", "crop", "flip",
    "cache", "ngf", "ndf", "n_blocks", "lambda_identity", "batch_size", "n_epochs", "n_epochs_decay", "max_steps",
    "learning_rate", "lr_policy", "lr_decay_every", "seed", "log_every", "sample_every", "checkpoint_every",
}


def require_supported(config: Config) -> None:
    """Exits with a message if the twin cannot train with the options of `config`."""
    differing = [
        field.name for field in dataclasses.fields(config)
        if field.name not in _SUPPORTED and getattr(config, field.name) != config.get_default(field.name)
    ]
    if differing:
        raise SystemExit(f"the PyTorch twin does not support --{differing[0]}; leave it out")
    if config.ndf != config.ngf:
        raise SystemExit(f"--ndf={config.ndf}: the PyTorch twin's discriminators have as many filters as its "
                         f"generators; use --ndf={config.ngf}")


def train(config: Config, output: str) -> float:
    """Trains the twin and writes its generators into folder `output`; returns the seconds of all steps."""
    tf.config.set_visible_devices([], "GPU")  # The images come from the CPU; all GPU memory is PyTorch's.
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    dataset = sources.open_dataset(config)
    plan = cadence.plan_run(config, dataset.count_images_per_epoch(config), 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    twin = torch_twin.Twin(config.ngf, config.n_blocks, config.lambda_identity, device=device)
    stream, loaders = pipeline.make_batches(dataset, config, 0, plan.n_steps)
    start = time.perf_counter()
    with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
        for step, batch in enumerate(batches):
            rate = schedules.compute_learning_rate(config, step, plan.count_epochs(step))
            for group in (*twin.adam_g.param_groups, *twin.adam_d.param_groups):
                group["lr"] = rate
            a, b = (torch.from_numpy(images.numpy()).permute(0, 3, 1, 2).to(device).contiguous() for images in batch)
            twin.step(a, b)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    os.makedirs(output, exist_ok=True)
    for name, network in zip(("G_A", "G_B"), twin.networks, strict=False):
        torch.save(rename_weights(network.state_dict()), os.path.join(output, f"latest_net_{name}.pth"))
    return seconds


def rename_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames a generator's weights as in the authors' code: 10.layers.1.bias becomes model.10.conv_block.1.bias."""
    return {f"model.{name}".replace(".layers.", ".conv_block."): tensor.cpu() for name, tensor in weights.items()}


def main() -> None:
    """Trains the twin with the flags of the command line."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    config = config_flags.from_arguments(sys.argv[2:])
    require_supported(config)
    print(f"seconds: {train(config, sys.argv[1]):.1f}")


if __name__ == "__main__":
    main()
