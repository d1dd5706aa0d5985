"""CycleGAN: four networks, four optimizers, two pools, and the compiled training step (paper sections 3 and 4)."""

import tensorflow as tf

from cyclegan_tf.models import compilation, image_pool, losses, precision, replicas
from cyclegan_tf.models.image_pool import ImagePool
from cyclegan_tf.models.optimizers import adam, assign, assign_learning_rates
from cyclegan_tf.networks import registry
from cyclegan_tf.ops import hardware

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
        self.config = config
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
                name: ImagePool(config.pool_size, 2 * config.seed + i + (number << 32), on_device=hardware.has_gpu())
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
        self.compiled_step = tf.function(self.step, reduce_retracing=True, autograph=False)

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

    def train_step(self, real_a, real_b):
        """One update of all four networks on batches (N, H, W, C) in [-1, 1]; returns float32 scalars by name."""
        scalars, fakes = self.compiled_step(real_a, real_b, *self.lend_past(real_a.shape, real_b.shape))
        self.keep_fakes([fakes])
        return scalars

    def lend_past(self, shape_a, shape_b):
        """For each replica of this process what its `step` needs of the pools, for batches of these shapes.

        NumPy alone decides it, before the step begins; `keep_fakes` must follow.
        """
        if not self.config.pool_size:
            return [{} for _ in self.replica_pools]
        # A fake has the size of its source and the channels of its own domain.
        shapes = {"fake_a": (*shape_b[:3], shape_a[3]), "fake_b": (*shape_a[:3], shape_b[3])}
        return [{name: pool.lend(shapes[name]) for name, pool in pools.items()} for pools in self.replica_pools]

    def keep_fakes(self, fakes):
        """Stores in the pools what `step` has returned for each replica of this process."""
        for pools, of_replica in zip(self.replica_pools, fakes, strict=True):
            for name, images in of_replica.items():
                pools[name].keep(images)

    def step(self, real_a, real_b, past):
        """The update as a pure function of tensors and the variables, to be traced: `train_step` for one replica.

        The four updates are simultaneous. That equals the authors' generators-first order: the discriminators learn
        from fakes made before the update, and the generators' loss never sees the updated discriminators.

        Args:
          past: what `lend_past` returned.

        Returns:
          Float32 scalars by name, and for each pool the list of fakes (1, H, W, C) that `keep_fakes` wants.
        """
        scalars, gradients, fakes = compilation.compile_part(self.config, self._differentiate)(real_a, real_b, past)
        means = iter(replicas.mean([tensor for gradient in gradients.values() for tensor in gradient]))
        gradients = {name: [next(means) for _ in gradient] for name, gradient in gradients.items()}
        scalars |= compilation.compile_part(self.config, self._update)(gradients)
        return scalars, fakes

    def _differentiate(self, real_a, real_b, past):
        """Returns the scalars, the gradient of each network's objective, and the fakes for the pools."""
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
            fakes = {"fake_a": fake_a, "fake_b": fake_b}
            seen = {
                name: image_pool.exchange(fake, *past[name]) if past else tf.stop_gradient(fake)
                for name, fake in fakes.items()
            }
            scalars |= self._discriminator_loss("a", real_a, seen["fake_a"])
            scalars |= self._discriminator_loss("b", real_b, seen["fake_b"])

        objectives |= {name: scalars[f"loss/{name}"] for name in DISCRIMINATORS}
        # All gradients before any update: an update must not change what another gradient is taken of.
        gradients = self._gradients(tape, objectives)
        return scalars, gradients, {name: tf.split(fakes[name], len(past[name][0])) for name in past}

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

    def _gradients(self, tape, objectives):
        """The gradient of each network's objective: lists of tensors by network."""
        variables = {name: self.networks[name].trainable_variables for name in objectives}
        gradients = {}
        for loss in {id(loss): loss for loss in objectives.values()}.values():
            # Networks that share an objective share its backward pass.
            names = [name for name, own in objectives.items() if own is loss]
            found = self.scaling.gradient(tape, loss, [variables[name] for name in names])
            gradients |= zip(names, found, strict=True)
        return gradients

    def _update(self, gradients):
        """Applies to each network its gradient; returns the gradients' norms."""
        def apply():
            for name, gradient in gradients.items():
                variables = self.networks[name].trainable_variables
                self.optimizers[name].apply_gradients(zip(gradient, variables, strict=True))

        norms = self.scaling.update(gradients, apply)
        if self.averages:
            self._follow_averages()
        return norms

    def _follow_averages(self):
        """average <- d average + (1 - d) weight, where d rises to `ema_decay` as (1 + t) / (10 + t)."""
        step = tf.cast(self.optimizers["gen_ab"].iterations, tf.float32)
        decay = tf.minimum(self.config.ema_decay, (1.0 + step) / (10.0 + step))
        for name, average in self.averages.items():
            for mean, weight in zip(average.weights, self.networks[name].weights, strict=True):
                assign(mean, decay * mean + (1.0 - decay) * weight)
