"""The weights of a network by name."""


def named_weights(model):
    """The model's variables by "LAYER/WEIGHT" ("stem_conv/kernel"), in layer order; the same on both stacks."""
    return {
        f"{layer.name}/{weight.name.split(':')[0].split('/')[-1]}": weight
        for layer in model.layers
        for weight in layer.weights
    }
