"""Sets of options that other flags start from."""

PRESETS = {
    "default": {},
    # Runs end to end in seconds on a CPU; for tests, not for pictures.
    "tiny": {
        "load_size": 40, "crop_size": 32, "ngf": 4, "ndf": 4, "n_blocks": 1, "n_layers": 2, "pool_size": 4,
        "max_steps": 4, "log_every": 1, "sample_every": 2, "checkpoint_every": 2, "n_samples": 2,
    },
}
