"""The authors' networks and training step in PyTorch, as plain as possible, for comparisons.

Written from the paper (Zhu et al. 2017, section 7.2) and the settings of its code: instance norm without affine
weights, least-squares losses, cycle weight 10, identity weight 5, Adam with learning rate 2e-4 and beta_1 0.5, pools of
50 images.
"""

import itertools
import random
from typing import Any

import torch
from torch import nn

# The first optimizer imports Triton, which crashes in a process that has imported TensorFlow.
torch.optim.Adam([torch.zeros(1)])


class Block(nn.Module):
    """Residual block with `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)]
        self.layers = nn.Sequential(*half, nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3),
                                    nn.InstanceNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def generator(ngf: int = 64, n_blocks: int = 9) -> nn.Sequential:
    """Builds the ResNet generator: (N, 3, H, W) in [-1, 1] -> the same."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7), nn.InstanceNorm2d(ngf), nn.ReLU(True)]
    for width in (ngf, 2 * ngf):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU(True)]
    layers += [Block(4 * ngf) for _ in range(n_blocks)]
    for width in (4 * ngf, 2 * ngf):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())


def discriminator(ndf: int = 64) -> nn.Sequential:
    """Builds the 70 x 70 PatchGAN: (N, 3, H, W) in [-1, 1] -> scores (N, 1, H/8 - 2, W/8 - 2)."""
    layers = [nn.Conv2d(3, ndf, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for width, stride in ((ndf, 2), (2 * ndf, 2), (4 * ndf, 1)):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * ndf, 1, 4, 1, 1))


class Pool:
    """Up to `size` past fakes; a full pool returns a past fake instead of a new one with probability 0.5."""

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[torch.Tensor] = []

    def query(self, images: torch.Tensor) -> torch.Tensor:
        """Returns new or past fakes: (N, C, H, W) -> the same."""
        returned = []
        for image in images.unsqueeze(1):
            if len(self.images) < self.size:
                self.images.append(image)
                returned.append(image)
            elif random.random() > 0.5:
                index = random.randrange(self.size)
                returned.append(self.images[index])
                self.images[index] = image
            else:
                returned.append(image)
        return torch.cat(returned)


class Twin:
    """Four networks and the authors' step: generators first, then the discriminators on pooled fakes.

    Args:
      ngf, n_blocks: filters and residual blocks of the generators; the discriminators have as many filters.
      identity: weight of the identity loss, as a share of the cycle weight.
      compiled: torch.compile's mode for the networks; None runs them eagerly.
      autocast: True runs forward passes in bfloat16, with channels last.
      device: "cpu", or "cuda", where float32 products use TF32 and cuDNN selects its fastest kernels.
    """

    def __init__(
        self,
        ngf: int = 64,
        n_blocks: int = 9,
        identity: float = 0.5,
        compiled: str | None = None,
        autocast: bool = False,
        device: str = "cpu",
    ) -> None:
        torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.device = device
        # Any, because torch's types do not know memory formats of modules.
        self.networks: list[Any] = [
            generator(ngf, n_blocks), generator(ngf, n_blocks), discriminator(ngf), discriminator(ngf)
        ]
        for network in self.networks:
            for layer in network.modules():
                if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                    nn.init.normal_(layer.weight, 0, 0.02)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
            network.to(device)
        if autocast:
            self.networks = [network.to(memory_format=torch.channels_last) for network in self.networks]
        pairs = self.networks[:2], self.networks[2:]
        self.adam_g, self.adam_d = (
            torch.optim.Adam(itertools.chain(*(network.parameters() for network in pair)), 2e-4, (0.5, 0.999))
            for pair in pairs
        )
        if compiled:
            self.networks = [torch.compile(network, mode=compiled) for network in self.networks]
        self.identity, self.autocast, self._graphs = identity, autocast, compiled == "reduce-overhead"
        self.pools = Pool(), Pool()

    def step(self, real_a: torch.Tensor, real_b: torch.Tensor) -> None:
        """Updates all networks once, on batches (N, 3, H, W) in [-1, 1]."""
        gen_ab, gen_ba, disc_a, disc_b = self.networks
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
            self._set_trainable(disc_a, disc_b, trainable=False)
            fake_b, fake_a = gen_ab(real_a), gen_ba(real_b)
            loss = 10 * (_l1(gen_ba(fake_b), real_a) + _l1(gen_ab(fake_a), real_b))
            if self.identity:
                loss = loss + 10 * self.identity * (_l1(gen_ab(real_b), real_b) + _l1(gen_ba(real_a), real_a))
            loss = loss + _squared_error(disc_b(fake_b), 1.0) + _squared_error(disc_a(fake_a), 1.0)
        self.adam_g.zero_grad()
        loss.backward()
        self.adam_g.step()
        self._set_trainable(disc_a, disc_b, trainable=True)
        self.adam_d.zero_grad()
        sides = (disc_b, self.pools[0], real_b, fake_b), (disc_a, self.pools[1], real_a, fake_a)
        for network, pool, real, fake in sides:
            # The next run of a CUDA graph overwrites its outputs.
            detached = fake.detach().clone() if self._graphs else fake.detach()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
                loss = _squared_error(network(real), 1.0) + _squared_error(network(pool.query(detached)), 0.0)
                loss = 0.5 * loss
            loss.backward()
        self.adam_d.step()

    @staticmethod
    def _set_trainable(*networks: nn.Module, trainable: bool) -> None:
        for network in networks:
            for parameter in network.parameters():
                parameter.requires_grad_(trainable)


def _l1(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (image - target).abs().mean()


def _squared_error(scores: torch.Tensor, target: float) -> torch.Tensor:
    return (scores.float() - target).square().mean()
