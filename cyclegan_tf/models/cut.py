"""CUT and FastCUT: unpaired translation in one direction by contrastive learning (Park et al. 2020)."""

from collections.abc import Iterable

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import base, compilation, patch_nce, replicas, seeds
from cyclegan_tf.models.base import Fakes, Past, Scalars
from cyclegan_tf.networks import patch_features, registry


class Cut(base.Model):
    """Unpaired translation from A to B.

    The contrastive loss asks for translations whose patches can be told apart: the features of a patch must be closer
    to the features of the same patch of the source than to the features of the source's other patches.

    Networks: the generator gen_ab; the discriminator disc_b; and features, which has an MLP for each compared layer of
    gen_ab. Like the authors' CUT, the model has no image pool.
    """

    generator_names = ("gen_ab",)
    discriminator_names = ("disc_b",)

    def __init__(self, config: Config, replicas: Iterable[int] = range(1)) -> None:
        super().__init__(config, replicas)
        for option, name in (("generator", "gen_ab"), ("discriminator", "disc_b")):
            registry.require_no_batch_norm(
                f"--model={config.model}", f"--{option}={getattr(config, option)}", self.networks[name]
            )

    def _build_other_networks(self) -> dict[str, tf.keras.Model]:
        generator, layers = self.networks["gen_ab"], patch_features.list_layers(self.config)
        maps = patch_features.find_maps(generator, layers)
        # One pass gives the translation and the compared maps. The encoder alone stops at the last compared layer.
        self._translate_and_encode = tf.keras.Model(generator.inputs[0], [generator.outputs[0], *maps])
        self._encode = tf.keras.Model(generator.inputs[0], maps)
        return {"features": registry.build_feature_network(self.config, generator, layers, "features")}

    def step(self, real_a: tf.Tensor, real_b: tf.Tensor, past: Past) -> tuple[Scalars, Fakes]:
        del past
        return compilation.compile_step(self.config, self._update)(real_a, real_b), {}

    def _update(self, real_a: tf.Tensor, real_b: tf.Tensor) -> Scalars:
        """Updates the discriminator, then the generator and the feature network.

        The generator learns from the updated discriminator, as in the authors' code.
        """
        config, iteration = self.config, self.iteration
        flipped = None
        if config.flip_equivariance:
            flipped = patch_nce.draw_flip(seeds.make_step_seed(config.seed, "cut/flip", iteration))
        sources = [real_a, *([real_b] if config.nce_identity else [])]
        with tf.GradientTape() as tape:
            outputs = self._run(self._translate_and_encode, [_mirror(images, flipped) for images in sources])
            fakes, keys = [maps[0] for maps in outputs], [maps[1:] for maps in outputs]
            with tape.stop_recording():
                if flipped is not None:
                    keys = self._run(self._encode, sources)  # The images of the keys are never mirrored.
                scalars = self._update_discriminator(real_b, fakes[0])
            on_fake = self.calls["disc_b"](self.augment(fakes[0], "b/generator"))
            terms = {"loss/gen_ab": self.adversarial_loss.generator(on_fake)}
            encoded = self._run(self._encode, fakes)
            queries = [[_mirror(feature_map, flipped) for feature_map in maps] for maps in encoded]
            names = ("nce", "nce_identity")[: len(fakes)]
            for name, of_fake, of_source in zip(names, queries, keys, strict=True):
                loss = self._contrast(name, of_fake, of_source, iteration)
                terms[f"loss/{name}"] = config.lambda_nce / len(fakes) * loss
            total = tf.add_n(list(terms.values()))
        return scalars | terms | {"loss/generators": total} | self._update_generator(tape, total)

    def _run(self, network: tf.keras.Model, images: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Computes the outputs of `network` for each batch of images, in one pass if all images have the same size."""
        if len(images) == 1 or not self.config.crops:
            return [tf.nest.flatten(network(batch, training=True)) for batch in images]
        outputs = tf.nest.flatten(network(tf.concat(images, axis=0), training=True))
        return [list(of_batch) for of_batch in zip(*(tf.split(output, len(images)) for output in outputs), strict=True)]

    def _contrast(
        self, name: str, queries: list[tf.Tensor], keys: list[tf.Tensor], iteration: tf.Tensor
    ) -> tf.Tensor:
        """Computes the PatchNCE loss of feature maps (N, H, W, C), the mean over the layers, without its weight.

        All images of a step, on all replicas, use the same patch positions.
        """
        config, positions = self.config, []
        for i, feature_map in enumerate(keys):
            size = tf.shape(feature_map)[1] * tf.shape(feature_map)[2]
            seed = seeds.make_step_seed(config.seed, f"cut/{name}/{i}", iteration)
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

    def _update_discriminator(self, real_b: tf.Tensor, fake_b: tf.Tensor) -> Scalars:
        discriminator = self.calls["disc_b"]
        with tf.GradientTape() as tape:
            on_fake = discriminator(self.augment(fake_b, "b/fake"))
            on_real = discriminator(self.augment(real_b, "b/real"))
            loss = self.adversarial_loss.discriminator(on_real, on_fake)
        gradient = replicas.average(self.scaling.gradient(tape, loss, self.networks["disc_b"].trainable_variables))
        scores = {"score/real_b": tf.reduce_mean(on_real), "score/fake_b": tf.reduce_mean(on_fake)}
        return {"loss/disc_b": loss} | self.apply_gradients({"disc_b": gradient}) | scores

    def _update_generator(self, tape: tf.GradientTape, loss: tf.Tensor) -> Scalars:
        """Updates the generator and the feature network by the gradients of one loss."""
        names = ("gen_ab", "features")
        found = self.scaling.gradient(tape, loss, [self.networks[name].trainable_variables for name in names])
        gradients = dict(zip(names, found, strict=True))
        return self.apply_gradients(replicas.average_gradients(gradients))


def _mirror(images: tf.Tensor, flipped: tf.Tensor | None) -> tf.Tensor:
    """Mirrors (N, H, W, C) left to right if the scalar `flipped` is true."""
    return images if flipped is None else tf.where(flipped, tf.reverse(images, axis=[2]), images)
