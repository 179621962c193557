"""Network, optimiser and chance of a training run: all that its state holds."""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import networks
from ._ranks import Ranks
from ._weighting import Weighting
from .checkpoint import load_checkpoint
from .errors import WrongInput
from .io.atomic import atomic_write
from .networks import MultiHead
from .networks._efficientnet import adapt_imagenet, imagenet_weights
from .optimisation import adamw
from .types import ModelSpec


class Run:
    """A training run.

    Parameters
    ----------
    config : mapping
        See `core.pretrain`.
    spec : ModelSpec
        The model that is trained.
    ranks : Ranks
        Who takes part.
    """

    def __init__(
        self, config: Mapping[str, Any], spec: ModelSpec, ranks: Ranks
    ) -> None:
        self.fingerprint = hashlib.sha256(
            json.dumps(config, sort_keys=True, default=str).encode()
        ).hexdigest()
        self.seed = int(config["seed"])
        self.ranks = ranks
        # the first process draws what a single one would
        self.rng = np.random.default_rng(
            self.seed if ranks.first else [self.seed, ranks.rank]
        )
        self.low = config.get("precision", "float32") == "bfloat16"
        self.format = torch.channels_last if spec.slicewise else torch.channels_last_3d
        self.net = _start(config, spec).to(ranks.device)
        self.net.to(memory_format=self.format)  # type: ignore[call-overload]  # missing in torch's stubs
        self.averaged = copy.deepcopy(self.net).eval()
        self.best = copy.deepcopy(self.net).eval()
        self.weighting = Weighting(config.get("weighting", {}), spec.heads)
        self.weighting.to(ranks.device)
        rates = config["rates"]
        heads = [*self.net.heads.parameters(), *self.weighting.parameters()]
        self.optimiser = adamw(
            [
                {"params": _trained(self.net.encoder), "lr": rates["encoder"]},
                {"params": heads, "lr": rates["heads"]},
            ]
        )
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []

    def average(self, most: float) -> None:
        """Move the averaged weights towards the present ones (EMA)."""
        decay = min(most, self.step / (self.step + 9))
        # statistics of batch norms with them
        means, values = self.averaged.state_dict(), self.net.state_dict()
        with torch.no_grad():
            for name, mean in means.items():
                if mean.is_floating_point():
                    mean.lerp_(values[name], 1 - decay)

    def measure(self, batches: Iterable[Tensor]) -> None:
        """Measure what the batch norms of the trained encoder levels see at the start.

        Levels that start anew over levels which have learned see other values there
        than their statistics were made of.
        """
        norms = [
            module
            for module in self.net.encoder.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and _trained(module)
        ]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        with torch.no_grad():
            for batch in batches:
                self.net.encoder(batch)
        for norm in norms:
            norm.eval()
        for copied in (self.averaged, self.best):
            copied.load_state_dict(self.net.state_dict())

    def settle(self) -> None:
        """Keep the statistics of batch norms: from now on they are as at inference.

        Those of a batch are of few slices of one set, so that a network which learns
        with them answers otherwise once they are averages over all sets.
        """
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        statistics = dict(self.net.named_buffers())
        for name, value in self.averaged.named_buffers():
            value.copy_(statistics[name])

    def save(self, path: Path) -> None:
        """Write the state, so that a killed run can go on."""
        state = {
            "fingerprint": self.fingerprint,
            "rng": json.dumps(self.rng.bit_generator.state),
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best.state_dict(),
            "weighting": self.weighting.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": json.dumps(self.curve),
        }
        atomic_write(path, lambda stream: torch.save(state, stream), overwrite=True)

    def load(self, path: Path) -> None:
        """Go on where `save` left off.

        Raises
        ------
        WrongInput
            If the state is that of another configuration.
        """
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["fingerprint"] != self.fingerprint:
            raise WrongInput(
                f"{path.name} is the state of another configuration.",
                "Name another state, or delete this one.",
            )
        for name in ("net", "averaged", "best", "weighting", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = json.loads(state["curve"])
        if self.ranks.first:
            self.rng.bit_generator.state = json.loads(state["rng"])
        else:  # its slices need not be the same, only new ones
            self.rng = np.random.default_rng([self.seed, self.ranks.rank, self.step])


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _start(config: Mapping[str, Any], spec: ModelSpec) -> MultiHead:
    start, depth = config["start"], int(config.get("depth", 0))
    net: MultiHead
    if start in ("imagenet", "random"):
        net = networks.build(spec, seed=config["seed"])
    else:  # or say what does not fit
        net = networks.network(replace(load_checkpoint(start), spec=spec))
    if start == "imagenet":
        _take_imagenet(net.encoder, spec)
    levels = net.encoder.levels()
    if config.get("renew", False):
        fresh = copy.deepcopy(net.encoder)
        _take_imagenet(fresh, spec)
        for mine, new in zip(levels[depth:], fresh.levels()[depth:], strict=True):
            nn.ModuleList(mine).load_state_dict(nn.ModuleList(new).state_dict())
    for kept in levels[:depth]:
        nn.ModuleList(kept).requires_grad_(False)
    net.train().encoder.eval()  # batch norms keep their statistics
    return net


def _take_imagenet(encoder: nn.Module, spec: ModelSpec) -> None:
    slices = int(spec.options.get("slices", 1))
    channels = slices * len(spec.channels)
    start = adapt_imagenet(imagenet_weights(), channels, together=slices)
    encoder.load_state_dict(start)
