"""The generator's opponent in training, and what both want of its logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from upscale.errors import TrainError
from upscale.train.config import ADVERSARIAL_KINDS
from upscale.train.losses.optimal_transport import high_pass

#: Brings the detail of real pictures, with a standard deviation of 0.01, near the size of their luma.
_DETAIL_GAIN = 32.0


class PatchDiscriminator(nn.Module):
    """A logit for each 8×8 cell of a picture, high where it looks real (PatchGAN, Isola et al. 2017).

    Every convolution is spectrally normalised (Miyato et al. 2018): its kernel, as a matrix of outputs
    by everything else, has the largest singular value 1, so a small change of the picture cannot change
    the logits much, and the generator gets a gradient that shows the way. The estimate is refined at
    every forward pass in training mode and is part of the state dict.

    Args:
        channels: of the first layer. 24 cost 84 million multiplications for 128×128 pixels.
        beside: pictures that are given beside the one that is judged.
    """

    def __init__(self, channels: int = 24, beside: int = 0) -> None:
        super().__init__()
        c = channels
        halving = [nn.Conv2d(i, o, 4, 2, 1) for i, o in ((2 + 2 * beside, c), (c, 2 * c), (2 * c, 4 * c))]
        level = [nn.Conv2d(4 * c, o, 3, 1, 1) for o in (4 * c, 4 * c, 1)]
        self.convs = nn.ModuleList(spectral_norm(conv) for conv in (*halving, *level))
        self.register_buffer("high_pass", high_pass()[None, None], persistent=False)

    def forward(self, *pictures: Tensor) -> Tensor:
        """(N, 1, H, W) luma in 0…1, H and W multiples of 8 → (N, 1, H/8, W/8) logits.

        Args:
            pictures: the one to judge, then those beside it, all of one size.
        """
        return self.features(*pictures)[-1]

    def judge(self, picture: Tensor, low: Tensor) -> list[list[Tensor]]:
        """As `ConditionalDiscriminator.judge`, of the only judge, who does not look at `low`."""
        return [self.features(picture)]

    def features(self, *pictures: Tensor) -> list[Tensor]:
        """What every layer makes of the pictures; the logits are the last."""
        # Layers that cannot amplify hardly see detail: on compressed clips, new discriminators of luma
        # alone were still guessing after 200 steps (right on 50 % of the logits; with a gain of 8 on
        # 56 %, of 20 on 69 %, of 40 on 81 %).
        x = torch.cat(pictures, dim=1)
        kernels = self.get_buffer("high_pass").expand(len(pictures), 1, 3, 3)
        detail = F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), kernels, groups=len(pictures))
        y, found = torch.cat([2 * x - 1, _DETAIL_GAIN * detail], dim=1), []
        for conv in list(self.convs)[:-1]:
            y = F.leaky_relu(conv(y), 0.2)
            found.append(y)
        return [*found, torch.as_tensor(self.convs[-1](y))]


class ConditionalDiscriminator(nn.Module):
    """Two judges that see the small picture, too: may *this* be its original?

    A judge that sees only the large picture asks for detail anywhere; one that knows what it was made
    from can tell detail from a codec's blocks, which lie where the small picture has them. The second
    one looks at half the resolution, where the blocks are as large as its layers see.
    """

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.fine, self.coarse = (PatchDiscriminator(channels, beside=1) for _ in range(2))

    def judge(self, picture: Tensor, low: Tensor) -> list[list[Tensor]]:
        """Features by judge, of (N, 1, 2h, 2w) luma and the small picture (N, 1, h, w); multiples of 8."""
        large = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return [self.fine.features(picture, large), self.coarse.features(F.avg_pool2d(picture, 2), low)]


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss: true pictures get high logits, generated ones low.

    Args:
        kind: "hinge", which leaves alone what is beyond a margin of 1 (Lim and Ye 2017, Geometric GAN), or
            "relativistic": true ones look more real than generated ones do on average, and the other
            way round (relativistic average GAN, Jolicoeur-Martineau 2018).
        real, fake: logits of any equal shape, of true pictures and of generated ones that are detached.

    Raises:
        TrainError: unknown kind.
    """
    if _known(kind) == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return (F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()) / 2


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss on the same logits; `real` only counts for "relativistic", as a constant.

    Raises:
        TrainError: unknown kind.
    """
    if _known(kind) == "hinge":
        return -fake.mean()
    real = real.detach()
    return (F.softplus(real - fake.mean()).mean() + F.softplus(real.mean() - fake).mean()) / 2


def matching_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean L1 distance of features, each layer relative to the size that it has for true pictures.

    Args:
        real, fake: of a discriminator's layers without its logits; `real` counts as a constant.
    """
    parts = [
        (f - r.detach()).abs().mean() / r.detach().abs().mean().clamp_min(1e-6)
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(parts).mean()


def _known(kind: str) -> str:
    if kind not in ADVERSARIAL_KINDS:
        raise TrainError(f"unknown adversarial loss {kind!r}: one of {', '.join(ADVERSARIAL_KINDS)}")
    return kind
