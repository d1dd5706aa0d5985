"""CUT and FastCUT: unpaired translation in one direction by contrastive learning (Park et al. 2020)."""

from collections.abc import Iterable

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import compilation, diff_augment, losses, patch_nce, precision, replicas, seeds
from cyclegan_tf.models.optimizers import adam, assign
from cyclegan_tf.models.pix2pix import Pix2Pix
from cyclegan_tf.networks import patch_features, registry

keras = tf.keras

Scalars = dict[str, tf.Tensor]


class Cut(Pix2Pix):
    """A generator A -> B, a discriminator of B, and the feature network of the contrastive loss.

    The contrastive loss asks for translations whose patches can be told apart: the features of a patch must be closer
    to the features of the same patch of the source than to those of the source's other patches.

    Attributes:
      networks: gen_ab; disc_b; and features, which has an MLP for each compared layer of gen_ab.
    """

    def __init__(self, config: Config, replicas: Iterable[int] = range(1)) -> None:
        self.config = config
        with precision.policy(config.mixed_precision):
            generator = registry.build_generator(config, "gen_ab")
            discriminator = registry.build_discriminator(config, "disc_b")
        layers = patch_features.list_layers(config)
        # Before training, features are smaller than float16 can square.
        features = registry.build_feature_network(config, generator, layers, "features")
        self.networks = {"gen_ab": generator, "disc_b": discriminator, "features": features}
        maps = patch_features.find_maps(generator, layers)
        self._translate_and_encode = keras.Model(generator.inputs[0], [generator.outputs[0], *maps])
        self._encode = keras.Model(generator.inputs[0], maps)
        self.scaling = precision.scaling(config.mixed_precision)
        self._calls = compilation.training_calls(config, {"disc_b": discriminator})
        self.optimizers = {name: adam(config) for name in self.networks}
        for name, optimizer in self.optimizers.items():
            optimizer.build(self.networks[name].trainable_variables)
        self.set_learning_rate(config.learning_rate)
        self.replica_pools = [{} for _ in replicas]
        self.pools = self.replica_pools[0]
        self.averages = {}
        self._copies = {}
        if config.ema_decay:
            self.averages = {"gen_ab": registry.build_generator(config, "gen_ab")}
            self.averages["gen_ab"].set_weights(generator.get_weights())
        elif config.mixed_precision != "none":
            self._copies = {"gen_ab": registry.build_generator(config, "gen_ab")}
        self.compiled_step = tf.function(self.step, reduce_retracing=True, autograph=False)

    @property
    def generators(self):
        return self.averages or self._copies or {"gen_ab": self.networks["gen_ab"]}

    def _step(self, real_a: tf.Tensor, real_b: tf.Tensor) -> Scalars:
        """Updates the discriminator; then the generator, which learns from the updated one, and the feature network."""
        config, iteration = self.config, tf.cast(self.optimizers["gen_ab"].iterations, tf.int64)
        flipped = None
        if config.flip_equivariance:
            flipped = patch_nce.draw_flip(seeds.seed_of_step(config.seed, "cut/flip", iteration))
        sources = [_mirror(real_a, flipped), *([real_b] if config.nce_identity else [])]
        with tf.GradientTape() as tape:
            outputs = self._run(self._translate_and_encode, sources)
            fakes, keys = [maps[0] for maps in outputs], [maps[1:] for maps in outputs]
            with tape.stop_recording():
                if flipped is not None:
                    keys = self._run(self._encode, [real_a])  # The image of the keys is never mirrored.
                scalars = self._update_discriminator(real_b, fakes[0], iteration)
            on_fake = self._calls["disc_b"](diff_augment.augment_step(config, fakes[0], "b/generator", iteration))
            terms = {"loss/gen_ab": losses.generator_loss(config.gan_mode, on_fake)}
            queries = self._run(self._encode, fakes)
            queries[0] = [_mirror(feature_map, flipped) for feature_map in queries[0]]
            for name, of_fake, of_source in zip(("nce", "nce_identity"), queries, keys, strict=False):
                loss = self._contrast(name, of_fake, of_source, iteration)
                terms[f"loss/{name}"] = config.lambda_nce / len(fakes) * loss
            total = tf.add_n(list(terms.values()))
        return scalars | terms | {"loss/generators": total} | self._update_generator(tape, total)

    def _run(self, network: keras.Model, images: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """The outputs of `network` for each batch of images, in one pass if all have the same size."""
        if len(images) == 1 or not self.config.crops:
            return [tf.nest.flatten(network(batch, training=True)) for batch in images]
        outputs = tf.nest.flatten(network(tf.concat(images, axis=0), training=True))
        return [list(of_batch) for of_batch in zip(*(tf.split(output, len(images)) for output in outputs), strict=True)]

    def _contrast(
        self, name: str, queries: list[tf.Tensor], keys: list[tf.Tensor], iteration: tf.Tensor
    ) -> tf.Tensor:
        """PatchNCE of feature maps (N, H, W, C), as the mean over the layers; unweighted.

        The positions are equal in all images of a step, on all replicas.
        """
        config, positions = self.config, []
        for i, feature_map in enumerate(keys):
            size = tf.shape(feature_map)[1] * tf.shape(feature_map)[2]
            seed = seeds.seed_of_step(config.seed, f"cut/{name}/{i}", iteration)
            positions.append(patch_nce.draw_positions(seed, size, config.nce_patches))
        query_rows, key_rows = (
            tf.nest.flatten(self.networks["features"](list(map(patch_features.sample, maps, positions)), training=True))
            for maps in (queries, keys)
        )
        n_images = tf.shape(keys[0])[0]
        layer_losses = [
            tf.reduce_mean(patch_nce.patch_nce_loss(query, key, n_images, config.nce_temperature))
            for query, key in zip(query_rows, key_rows, strict=True)
        ]
        return tf.reduce_mean(layer_losses)

    def _update_discriminator(self, real_b: tf.Tensor, fake_b: tf.Tensor, iteration: tf.Tensor) -> Scalars:
        config, discriminator = self.config, self._calls["disc_b"]
        with tf.GradientTape() as tape:
            on_fake = discriminator(diff_augment.augment_step(config, fake_b, "b/fake", iteration))
            on_real = discriminator(diff_augment.augment_step(config, real_b, "b/real", iteration))
            loss = 0.5 * (
                losses.discriminator_fake_loss(config.gan_mode, on_fake)
                + losses.discriminator_real_loss(config.gan_mode, on_real, config.label_smoothing)
            )
        scores = {"score/real_b": tf.reduce_mean(on_real), "score/fake_b": tf.reduce_mean(on_fake)}
        return {"loss/disc_b": loss} | self._update("disc_b", tape, loss) | scores

    def _update_generator(self, tape: tf.GradientTape, loss: tf.Tensor) -> Scalars:
        """Updates the generator and the feature network by the gradients of one loss, and the generator's average."""
        names = ("gen_ab", "features")
        variables = {name: self.networks[name].trainable_variables for name in names}
        found = self.scaling.gradient(tape, loss, list(variables.values()))
        means = iter(replicas.mean([tensor for gradient in found for tensor in gradient]))
        gradients = {name: [next(means) for _ in variables[name]] for name in names}

        def apply() -> None:
            for name, gradient in gradients.items():
                self.optimizers[name].apply_gradients(zip(gradient, variables[name], strict=True))

        norms = self.scaling.update(gradients, apply)
        if self.averages:
            self._follow_averages()
        return norms

    def _follow_averages(self) -> None:
        step = tf.cast(self.optimizers["gen_ab"].iterations, tf.float32)
        decay = tf.minimum(self.config.ema_decay, (1.0 + step) / (10.0 + step))
        for mean, weight in zip(self.averages["gen_ab"].weights, self.networks["gen_ab"].weights, strict=True):
            assign(mean, decay * mean + (1.0 - decay) * weight)


def _mirror(images: tf.Tensor, flipped: tf.Tensor | None) -> tf.Tensor:
    """Mirrors (N, H, W, C) left to right if the scalar `flipped` is true."""
    return images if flipped is None else tf.where(flipped, tf.reverse(images, axis=[2]), images)
