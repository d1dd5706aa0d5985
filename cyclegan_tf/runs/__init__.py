"""Run directories: their files, checkpoints and reports, and the page that shows a run."""
