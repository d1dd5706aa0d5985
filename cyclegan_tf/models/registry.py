"""Builds the model that a Config names."""

from collections.abc import Iterable

from cyclegan_tf.config import Config, registries
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.base import Model


def build_model(config: Config, replicas: Iterable[int] = range(1)) -> Model:
    """Builds the model that --model names; see `Model` for the arguments.

    Raises:
      UserError: the registered function does not fulfill the contract of `register_model`.
    """
    entry = registries.MODELS[config.model]
    if missing := getattr(entry.build, "__abstractmethods__", None):
        raise UserError(f"--model={config.model}: the registered class does not define {', '.join(sorted(missing))}; "
                        "add the missing methods")
    model = entry.build(config, replicas)
    if not isinstance(model, Model):
        raise UserError(f"--model={config.model}: the registered function returns a {type(model).__name__}; return an "
                        "instance of a subclass of cyclegan_tf.models.base.Model")
    for direction in entry.directions:
        if direction.generator not in model.generator_names:
            raise UserError(f"--model={config.model} is registered for direction {direction}, but has no generator "
                            f"{direction.generator}; name it in generator_names, or register other directions")
    if model.pool_names and not entry.has_pools:
        raise UserError(f"--model={config.model} has image pools, but is registered with has_pools=False; register it "
                        "without has_pools")
    if model.pool_names and type(model).get_pool_shapes is Model.get_pool_shapes:
        raise UserError(f"--model={config.model} has image pools, but no method get_pool_shapes; implement the method, "
                        "or leave pool_names empty")
    return model
