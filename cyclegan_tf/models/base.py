"""The base class of all models: everything of a model that the training loop, checkpoints and exporters use."""

import abc
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import compilation, diff_augment, losses, precision, seeds
from cyclegan_tf.models import replicas as replica_context
from cyclegan_tf.models.image_pool import ImagePool, StoredImage
from cyclegan_tf.models.optimizers import Adam, assign
from cyclegan_tf.networks import layers, registry
from cyclegan_tf.ops import hardware

Scalars = dict[str, tf.Tensor]
Gradients = dict[str, list[tf.Tensor]]
# What a step reads from each pool: the arguments `past` and `sources` of `image_pool.exchange`.
Past = dict[str, tuple[list[StoredImage], np.ndarray]]
# What a step returns for each pool: the images of a batch, (1, H, W, C) each.
Fakes = dict[str, list[tf.Tensor]]


class Model(abc.ABC):
    """Networks that train together, and all state that changes while they train.

    A subclass sets the class attributes `generator_names`, `discriminator_names` and, if it has image pools,
    `pool_names`. A subclass implements `step` and, if it has image pools, `get_pool_shapes`. A step calls networks
    through `calls`, takes gradients with `scaling.gradient`, averages them with `replicas.average`, and updates
    networks with `apply_gradients`. A step keeps no state except the image pools and the variables in `networks`,
    `optimizers` and `scaling`, because a checkpoint holds nothing else. Stateless functions draw random numbers from
    `config.seed` and the step (`seeds.make_step_seed`).

    Args:
      config: the options of the run. `networks.registry` builds the networks from them.
      replicas: the numbers of this process's replicas; each replica has its own image pools.

    Attributes:
      adversarial_loss: the loss that --gan_mode names.
      networks: generators, discriminators and other networks by name.
      optimizers: one `Adam` for each network, by the same names.
      calls: for each network, a function of a batch of images that calls the network in training mode; --recompute
        decides which feature maps the function keeps.
      averages: moving averages of the generators, by name; empty if `config.ema_decay` is 0.
      scaling: takes and applies gradients in the precision of the networks; its variables belong to a checkpoint.
      replica_pools: for each local replica, the image pools by name.
      compiled_step: `seeded_step` as a tf.function.
    """

    generator_names: tuple[str, ...]
    discriminator_names: tuple[str, ...]
    pool_names: tuple[str, ...] = ()

    def __init__(self, config: Config, replicas: Iterable[int] = range(1)) -> None:
        self.config = config
        self.adversarial_loss = losses.build_loss(config)
        with precision.use_policy(config.mixed_precision):
            self.networks = self._build_generators()
            self.networks |= {name: registry.build_discriminator(config, name) for name in self.discriminator_names}
        self.networks |= self._build_other_networks()
        self.scaling = precision.make_scaling(config.mixed_precision)
        self.calls = {
            name: compilation.make_training_call(network, config.recompute and name in self.generator_names)
            for name, network in self.networks.items()
        }
        self.optimizers = {
            name: Adam(network.trainable_variables, config.learning_rate, config.beta_1, config.beta_2)
            for name, network in self.networks.items()
        }
        self.set_learning_rate(config.learning_rate)
        self._pool_dtype = precision.get_dtype(config.mixed_precision)
        # Do not shift by 32: Python's generator has the same state for the seeds 2 and 2 + 2^32.
        self.replica_pools = [
            {
                name: ImagePool(config.pool_size, 2 * config.seed + i + (replica << 64),
                                on_device=hardware.has_gpu(), dtype=self._pool_dtype)
                for i, name in enumerate(self.pool_names)
            }
            for replica in replicas
        ]
        self.averages = self._build_generators() if config.ema_decay else {}
        for name, average in self.averages.items():
            average.set_weights(self.networks[name].get_weights())
        has_copies = config.mixed_precision != "none" and not self.averages
        self._float32_copies = self._build_generators() if has_copies else {}
        self.compiled_step = tf.function(self.seeded_step, reduce_retracing=True, autograph=False)

    def _build_generators(self) -> dict[str, tf.keras.Model]:
        return {name: registry.build_generator(self.config, name) for name in self.generator_names}

    def _build_other_networks(self) -> dict[str, tf.keras.Model]:
        """Returns the networks that are neither generators nor discriminators, by name; they compute in float32."""
        return {}

    @property
    def iteration(self) -> tf.Tensor:
        """The number of past generator updates, an int64 scalar: the argument `iteration` of `make_step_seed`."""
        return tf.convert_to_tensor(self.optimizers[self.generator_names[0]].iterations)

    @property
    def pools(self) -> dict[str, ImagePool]:
        """The image pools of the first local replica, by name."""
        return self.replica_pools[0]

    @property
    def generators(self) -> dict[str, tf.keras.Model]:
        """The float32 generators to translate with: the moving averages if --ema_decay is set; call `refresh` first."""
        return self.averages or self._float32_copies or {name: self.networks[name] for name in self.generator_names}

    def refresh(self) -> None:
        """Updates `generators`, which are float32 copies if the networks compute in half precision."""
        for name, copy in self._float32_copies.items():
            copy.set_weights(self.networks[name].get_weights())

    def set_learning_rate(self, value: float) -> None:
        """Sets the generators' learning rate, and the discriminators' in proportion to --disc_learning_rate."""
        config = self.config
        share = config.disc_learning_rate / config.learning_rate if config.disc_learning_rate else 1.0
        for name, optimizer in self.optimizers.items():
            optimizer.learning_rate.assign(value * share if name in self.discriminator_names else value)

    def train_step(self, real_a: tf.Tensor, real_b: tf.Tensor) -> Scalars:
        """Updates all networks once, in a run of one replica.

        Args:
          real_a: batch of images of domain A, float32 (N, H, W, C) in [-1, 1].
          real_b: batch of images of domain B, likewise.

        Returns:
          Losses, scores and gradient norms, float32 scalars by name. This method does not wait for the end of the
          step; reading a scalar does.
        """
        (past,) = self.draw_past(real_a.shape, real_b.shape)
        scalars, fakes = self.compiled_step(real_a, real_b, past)
        self.store_fakes([fakes])
        return scalars

    def seeded_step(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Fakes]:
        """Runs `step` with dropout masks that depend only on the run's seed, the step and the replica.

        Returns the result of `step`; the fakes have the type of the pools' images.
        """
        number, _ = replica_context.get_replica()

        def make_seed(call: int) -> tf.Tensor:
            seed = seeds.make_step_seed(self.config.seed, f"dropout/{call}", self.iteration)
            return seed + tf.constant([number, 0], tf.int64)

        if not self.config.crops:
            # The first trace in a process would have static sizes and choose kernels that round differently from the
            # kernels of later traces, which are for any size. A resumed run would then compute other bits.
            real_a, real_b = (
                tf.compat.v1.placeholder_with_default(images, (images.shape[0], None, None, images.shape[-1]))
                for images in (real_a, real_b)
            )
        with layers.seed_dropout(make_seed):
            scalars, fakes = self.step(real_a, real_b, past)
        return scalars, tf.nest.map_structure(lambda image: tf.cast(image, self._pool_dtype), fakes)

    @abc.abstractmethod
    def step(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Fakes]:
        """Updates all networks once on one replica; a tf.function traces this method.

        Args:
          real_a: batch of images of domain A, float32 (N, H, W, C) in [-1, 1].
          real_b: batch of images of domain B, likewise.
          past: the element for this replica of the list that `draw_past` returned.

        Returns:
          (scalars, fakes): the scalars that `train_step` returns, and the fakes of this replica for `store_fakes`.
        """

    def get_pool_shapes(self, shape_a: Sequence[int], shape_b: Sequence[int]) -> Mapping[str, Sequence[int]]:
        """Returns the shape (N, H, W, C) of the fakes for each pool, from the shapes of a step's batches."""
        raise NotImplementedError(f"{type(self).__name__} has image pools, so it must implement get_pool_shapes")

    def draw_past(self, shape_a: Sequence[int], shape_b: Sequence[int]) -> list[Past]:
        """Draws the argument `past` of the next `step` from the image pools; call `store_fakes` after the step.

        The draws do not depend on the step's images, so no step waits for a draw on the host.

        Args:
          shape_a: shape of a replica's batch of domain A, (N, H, W, C).
          shape_b: shape of a replica's batch of domain B, likewise.

        Returns:
          The argument `past` of `step` for each local replica.
        """
        if not self.pool_names or not self.config.pool_size:
            return [{} for _ in self.replica_pools]
        shapes = self.get_pool_shapes(shape_a, shape_b)
        return [{name: pool.draw(shapes[name]) for name, pool in pools.items()} for pools in self.replica_pools]

    def store_fakes(self, fakes: Sequence[Fakes]) -> None:
        """Stores fakes in the image pools, in the slots that `draw_past` drew.

        Args:
          fakes: for each local replica, the fakes that `step` returned.
        """
        for pools, replica_fakes in zip(self.replica_pools, fakes, strict=True):
            for name, images in replica_fakes.items():
                pools[name].store(images)

    def augment(self, images: tf.Tensor, use: str) -> tf.Tensor:
        """Applies --diff_augment to a batch (N, H, W, C) for a discriminator; call before the update of the generators.

        Args:
          use: names the images and the network that learns from them; each use has separate random numbers.
        """
        if not self.config.augmentations:
            return images
        return diff_augment.augment_step(self.config, images, use, self.iteration)

    def apply_gradients(self, gradients: Gradients) -> Scalars:
        """Updates the weights and averages of the networks in `gradients`; returns the norms of their gradients.

        Args:
          gradients: for each network to update, the gradient of each trainable variable, equal on all replicas.
        """
        def apply() -> None:
            for name, gradient in gradients.items():
                self.optimizers[name].apply_gradients(gradient)

        norms = self.scaling.update(gradients, apply)
        self._update_averages([name for name in self.averages if name in gradients])
        return norms

    def _update_averages(self, names: Sequence[str]) -> None:
        """average <- d average + (1 - d) weight, where d grows to `ema_decay` like (1 + t) / (10 + t) in step t."""
        for name in names:
            step = tf.cast(self.optimizers[name].iterations, tf.float32)
            decay = tf.minimum(self.config.ema_decay, (1.0 + step) / (10.0 + step))
            for average, weight in zip(self.averages[name].weights, self.networks[name].weights, strict=True):
                assign(average, decay * average + (1.0 - decay) * weight)
