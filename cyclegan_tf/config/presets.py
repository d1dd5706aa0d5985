"""Sets of option values: presets, selected with --preset, and defaults of models. Flags override both."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Trains end to end in seconds on a CPU. For tests; the images are useless.
    "tiny": {
        "dataset": "demo_maps", "load_size": 40, "crop_size": 32, "ngf": 4, "ndf": 4, "n_blocks": 1, "n_layers": 2,
        "pool_size": 4, "max_steps": 4, "log_every": 1, "sample_every": 2, "checkpoint_every": 2, "n_samples": 2,
    },
}

_CUT_NETWORKS = {"antialias": "both", "initialization": "xavier", "pool_size": 0}
# Defaults of the authors' code that differ from CycleGAN's. A preset overrides them.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "cut": {**_CUT_NETWORKS, "n_epochs": 200, "n_epochs_decay": 200},
    "fastcut": {
        **_CUT_NETWORKS, "n_epochs": 150, "n_epochs_decay": 50, "lambda_nce": 10.0, "nce_identity": False,
        "flip_equivariance": True,
    },
}
