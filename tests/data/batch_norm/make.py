"""Trains CycleGAN with batch norm as the authors' code does, and writes what test_batch_norm.py expects.

  python tests/data/batch_norm/make.py

Needs PyTorch. The networks have the authors' layers and keys, one residual block, and two layers of stride 2 in the
discriminators. cyclegan.npz holds images real_A and real_B (steps, N, 3, H, W), initial weights init/NET/KEY of the
networks G_A, G_B, D_A and D_B, and as results losses/NAME (steps,) and the running statistics after/NET/KEY after the
last step, computed in float64.
"""

import os

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    """A sequence of layers whose parameters have the keys of the authors' networks: model.0.weight, ..."""

    def __init__(self, *layers):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, images):
        return self.model(images)


class ResidualBlock(nn.Module):
    def __init__(self, filters):
        super().__init__()
        first, second = (
            [nn.ReflectionPad2d(1), nn.Conv2d(filters, filters, 3, bias=False), nn.BatchNorm2d(filters)] for _ in "ab"
        )
        self.conv_block = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, images):
        return images + self.conv_block(images)


def generator(ngf):
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7, bias=False), nn.BatchNorm2d(ngf), nn.ReLU()]
    for width in (ngf, 2 * ngf):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()]
    layers.append(ResidualBlock(4 * ngf))
    for width in (4 * ngf, 2 * ngf):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()]
    return Network(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())


def discriminator(ndf):
    layers = [nn.Conv2d(3, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
    for width, stride in ((ndf, 2), (2 * ndf, 1)):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)]
    return Network(*layers, nn.Conv2d(4 * ndf, 1, 4, 1, 1))


def train(nets, images, lambda_a=8.0, lambda_b=12.0, identity=0.5):
    """Yields the losses of each step; the calls have the order of the authors' optimize_parameters."""
    g_a, g_b, d_a, d_b = (nets[name] for name in ("G_A", "G_B", "D_A", "D_B"))
    mean_squares, mean_absolute = nn.MSELoss(), nn.L1Loss()

    def judge(net, images, label):
        scores = net(images)
        return mean_squares(scores, torch.full_like(scores, label))

    adam_g, adam_d = (
        torch.optim.Adam([*one.parameters(), *other.parameters()], 2e-4, betas=(0.5, 0.999))
        for one, other in ((g_a, g_b), (d_a, d_b))
    )
    for real_a, real_b in zip(*(torch.tensor(domain).double() for domain in images.values()), strict=True):
        fake_b = g_a(real_a)
        rec_a = g_b(fake_b)
        fake_a = g_b(real_b)
        rec_b = g_a(fake_a)
        terms = {
            "idt_A": mean_absolute(g_a(real_b), real_b) * lambda_b * identity,
            "idt_B": mean_absolute(g_b(real_a), real_a) * lambda_a * identity,
        }
        terms["G_A"], terms["G_B"] = judge(d_a, fake_b, 1.0), judge(d_b, fake_a, 1.0)
        terms["cycle_A"] = mean_absolute(rec_a, real_a) * lambda_a
        terms["cycle_B"] = mean_absolute(rec_b, real_b) * lambda_b
        adam_g.zero_grad()
        sum(terms.values()).backward()
        adam_g.step()
        adam_d.zero_grad()
        for name, net, real, fake in (("D_A", d_a, real_b, fake_b), ("D_B", d_b, real_a, fake_a)):
            terms[name] = (judge(net, real, 1.0) + judge(net, fake.detach(), 0.0)) * 0.5
            terms[name].backward()
        adam_d.step()
        yield {name: value.item() for name, value in terms.items()}


def draw_images(rng, means, deviations):
    """Images k / 127.5 - 1 whose brightness and contrast change from step to step, so that the order matters."""
    images = [rng.normal(mean, deviation, (2, 3, 16, 16)) for mean, deviation in zip(means, deviations, strict=True)]
    return (np.rint((np.clip(images, -1, 1) + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def main():
    rng = np.random.default_rng(0)
    images = {
        "real_A": draw_images(rng, (0.6, 0.4, 0.1), (0.1, 0.2, 0.4)),
        "real_B": draw_images(rng, (-0.4, 0.0, -0.7), (0.5, 0.3, 0.2)),
    }
    torch.manual_seed(0)
    nets = {net: (generator if net.startswith("G") else discriminator)(2) for net in ("G_A", "G_B", "D_A", "D_B")}
    arrays = dict(images)
    for net, network in nets.items():
        arrays |= {f"init/{net}/{key}": value.numpy().copy() for key, value in network.state_dict().items()}
        network.double()
    history = list(train(nets, images))
    arrays |= {f"losses/{name}": [losses[name] for losses in history] for name in history[0]}
    for net, network in nets.items():
        after = network.state_dict().items()
        arrays |= {f"after/{net}/{key}": value.numpy() for key, value in after if ".running_" in key}
    np.savez_compressed(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cyclegan.npz"), **arrays)


if __name__ == "__main__":
    main()
