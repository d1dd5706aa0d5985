"""Sets of option values, selected with --preset. Flags override them."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Trains end to end in seconds on a CPU. For tests; the images are useless.
    "tiny": {
        "dataset": "demo_maps", "load_size": 40, "crop_size": 32, "ngf": 4, "ndf": 4, "n_blocks": 1, "n_layers": 2,
        "pool_size": 4, "max_steps": 4, "log_every": 1, "sample_every": 2, "checkpoint_every": 2, "n_samples": 2,
    },
}
