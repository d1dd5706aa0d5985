"""A package of another author, which adds to cyclegan_tf what tests train."""
