"""CycleGAN: four networks, four optimizers, two pools, and the compiled training step (paper sections 3 and 4)."""

import tensorflow as tf

from cyclegan_tf.models import compilation, losses, precision, replicas
from cyclegan_tf.models.image_pool import ImagePool
from cyclegan_tf.models.optimizers import adam, assign, assign_learning_rates
from cyclegan_tf.networks import registry

GENERATORS = ("gen_ab", "gen_ba")
DISCRIMINATORS = ("disc_a", "disc_b")


# --generator_loss=separate: the terms of one generator. Each is of an image of its output domain that it makes itself:
# gen_ab's are B's, the cycle B -> A -> B among them, whose last image is gen_ab's.
OWN_TERMS = {
    "gen_ab": ("loss/gen_ab", "loss/cycle_b", "loss/identity_b"),
    "gen_ba": ("loss/gen_ba", "loss/cycle_a", "loss/identity_a"),
}


class CycleGAN:
    """The networks of a run and everything that changes while they train.

    Attributes:
      networks: gen_ab (A -> B), gen_ba, disc_a (is it a real A?), disc_b: Keras models by name.
      optimizers: one Adam for each network, by the same names.
      replica_pools: for each replica of this process the `ImagePool`s of fake_a and fake_b.
      pools: those of the first one.
      averages: moving averages of the generators, by their names; empty without `ema_decay`.
      scaling: how gradients are taken and applied in the precision of the networks.
    """

    def __init__(self, config, replicas=range(1)):
        self.config, self._first_replica = config, replicas.start
        with precision.policy(config.mixed_precision):
            self.networks = {name: registry.build_generator(config, name) for name in GENERATORS}
            self.networks |= {name: registry.build_discriminator(config, name) for name in DISCRIMINATORS}
        self.scaling = precision.scaling(config.mixed_precision)
        self._calls = compilation.training_calls(config, self.networks)
        self.optimizers = {name: adam(config) for name in self.networks}
        for name, optimizer in self.optimizers.items():
            optimizer.build(self.networks[name].trainable_variables)
        self.set_learning_rate(config.learning_rate)
        self.replica_pools = [
            {
                name: ImagePool(config.pool_size, seed=2 * config.seed + i + (number << 32))
                for i, name in enumerate(("fake_a", "fake_b"))
            }
            for number in replicas
        ]
        self.pools = self.replica_pools[0]
        self.averages = {}
        if config.ema_decay:
            self.averages = {name: registry.build_generator(config, name) for name in GENERATORS}
            for name, average in self.averages.items():
                average.set_weights(self.networks[name].get_weights())
        self._copies = {}
        if config.mixed_precision != "none" and not self.averages:
            self._copies = {name: registry.build_generator(config, name) for name in GENERATORS}
        # A batch norm's statistics are of the whole batch, and images that keep their sizes make no batch.
        self._join_calls = config.norm != "batch" and config.crops
        self.train_step = tf.function(self._train_step, reduce_retracing=True, autograph=False)

    @property
    def generators(self):
        """The generators to use, in float32: the averaged ones where there are such; see `refresh`."""
        return self.averages or self._copies or {name: self.networks[name] for name in GENERATORS}

    def refresh(self):
        """Brings `generators` up to date: those of networks in half precision are copies in float32."""
        for name, copy in self._copies.items():
            copy.set_weights(self.networks[name].get_weights())

    def set_learning_rate(self, value):
        assign_learning_rates(self.config, self.optimizers, value)

    def _train_step(self, real_a, real_b):
        """One update of all four networks on batches (N, H, W, C) in [-1, 1]; returns float32 scalars by name.

        The four updates are simultaneous. That equals the authors' generators-first order: the discriminators learn
        from fakes made before the update, and the generators' loss never sees the updated discriminators.
        """
        config, nets, cycle_loss = self.config, self._calls, losses.CYCLE_LOSSES[self.config.cycle_loss]
        with tf.GradientTape(persistent=True) as tape:
            fake_b, same_b = self._translate(nets["gen_ab"], real_a, real_b)  # (N, H, W, C) each
            fake_a, same_a = self._translate(nets["gen_ba"], real_b, real_a)
            cycled_a = nets["gen_ba"](fake_b)
            cycled_b = nets["gen_ab"](fake_a)
            scalars = {
                "loss/gen_ab": losses.generator_loss(config.gan_mode, nets["disc_b"](fake_b)),
                "loss/gen_ba": losses.generator_loss(config.gan_mode, nets["disc_a"](fake_a)),
                "loss/cycle_a": config.lambda_a * cycle_loss(cycled_a, real_a),
                "loss/cycle_b": config.lambda_b * cycle_loss(cycled_b, real_b),
            }
            if config.lambda_identity:
                # As the authors weight them: gen_ba keeps A, which is measured against lambda_a.
                weight_a, weight_b = (config.lambda_identity * w for w in (config.lambda_a, config.lambda_b))
                scalars["loss/identity_a"] = weight_a * losses.l1_loss(same_a, real_a)
                scalars["loss/identity_b"] = weight_b * losses.l1_loss(same_b, real_b)
            objectives = self._generators_objectives(scalars)
            scalars["loss/generators"] = tf.add_n(list(scalars.values()))
            scalars |= self._discriminator_loss("a", real_a, self._pooled("fake_a", fake_a))
            scalars |= self._discriminator_loss("b", real_b, self._pooled("fake_b", fake_b))

        objectives |= {name: scalars[f"loss/{name}"] for name in DISCRIMINATORS}
        scalars |= self._update(tape, objectives)
        if self.averages:
            self._follow_averages()
        return scalars

    def _translate(self, generator, source, target):
        """The translation of `source`, and what the identity loss compares with `target`, a real image like it.

        That is the output for `target` itself, or with --identity_mode=cross the translation: of pairs, what it ought
        to be. Without an identity loss it is None.
        """
        if not self.config.lambda_identity:
            return generator(source), None
        if self.config.identity_mode == "cross":
            return (generator(source),) * 2
        if not self._join_calls:
            return generator(source), generator(target)
        return tf.split(generator(tf.concat([source, target], axis=0)), 2)

    def _generators_objectives(self, terms):
        """What each generator minimizes: the sum of all terms, or with --generator_loss=separate that of its own."""
        if self.config.generator_loss == "joint":
            return dict.fromkeys(GENERATORS, tf.add_n(list(terms.values())))
        return {name: tf.add_n([terms[term] for term in own if term in terms]) for name, own in OWN_TERMS.items()}

    def _pooled(self, name, fake):
        """What the pool gives back for `fake`; through NumPy, so no gradient flows to the generators."""
        pool = self.replica_pools[replicas.replica()[0] - self._first_replica][name]
        if pool.size == 0:
            return tf.stop_gradient(fake)
        pooled = tf.numpy_function(pool.query, [fake], fake.dtype)
        pooled.set_shape(fake.shape)
        return pooled

    def _discriminator_loss(self, domain, real, fake):
        """1/2 (loss on real + loss on fake), plus the gradient penalty of wgangp; and the mean scores of both."""
        config, discriminator = self.config, self._calls[f"disc_{domain}"]
        if self._join_calls:
            on_real, on_fake = tf.split(discriminator(tf.concat([real, fake], axis=0)), 2)
        else:
            on_real, on_fake = discriminator(real), discriminator(fake)
        loss = 0.5 * (
            losses.discriminator_real_loss(config.gan_mode, on_real, config.label_smoothing)
            + losses.discriminator_fake_loss(config.gan_mode, on_fake)
        )
        if config.gan_mode == "wgangp":
            iteration = tf.cast(self.optimizers[f"disc_{domain}"].iterations, tf.int64)
            seed = tf.stack([tf.constant(2 * config.seed + (domain == "b"), tf.int64), iteration])
            number, count = replicas.replica()
            # Drawn for the images of all replicas, of which these are a part.
            alpha = tf.split(tf.random.stateless_uniform(count * tf.shape(real)[:1], seed), count)[number]
            loss += losses.gradient_penalty(discriminator, real, fake, alpha)
        return {
            f"loss/disc_{domain}": loss,
            f"score/real_{domain}": tf.reduce_mean(on_real),
            f"score/fake_{domain}": tf.reduce_mean(on_fake),
        }

    def _update(self, tape, objectives):
        """Applies to each network the gradient of its objective; returns the gradients' norms."""
        # All gradients first: an update must not change what another gradient is taken of.
        variables = {name: self.networks[name].trainable_variables for name in objectives}
        gradients = {}
        for loss in {id(loss): loss for loss in objectives.values()}.values():
            # Networks that share an objective share its backward pass.
            names = [name for name, own in objectives.items() if own is loss]
            found = self.scaling.gradient(tape, loss, [variables[name] for name in names])
            gradients |= zip(names, found, strict=True)
        means = iter(replicas.mean([tensor for gradient in gradients.values() for tensor in gradient]))
        gradients = {name: [next(means) for _ in gradient] for name, gradient in gradients.items()}

        def apply():
            for name, gradient in gradients.items():
                self.optimizers[name].apply_gradients(zip(gradient, variables[name], strict=True))

        return self.scaling.update(gradients, apply)

    def _follow_averages(self):
        """average <- d average + (1 - d) weight, where d rises to `ema_decay` as (1 + t) / (10 + t)."""
        step = tf.cast(self.optimizers["gen_ab"].iterations, tf.float32)
        decay = tf.minimum(self.config.ema_decay, (1.0 + step) / (10.0 + step))
        for name, average in self.averages.items():
            for mean, weight in zip(average.weights, self.networks[name].weights, strict=True):
                assign(mean, decay * mean + (1.0 - decay) * weight)
