"""How the losses of many heads become one."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .errors import WrongInput

KINDS = ("linear", "uncertainty", "scheduled")


class Weighting(nn.Module):
    """Weights of the heads' losses.

    Parameters
    ----------
    table : mapping
        ``{"kind": "linear"}``: the mean over heads, each times its number in
        ``weights`` (1 by default). ``{"kind": "uncertainty"}``: a learned variance for
        each head [1]_. ``{"kind": "scheduled", "main": [heads]}``: the mean over the
        main heads and that over the others, the former's share growing from 1/2 to 1
        as 1 - (1 - progress)^4 / 2.
    heads : iterable of str
        All heads that are trained.

    Raises
    ------
    WrongInput
        If the kind is not known, or a head is not.

    References
    ----------
    .. [1] A. Kendall et al., "Multi-task learning using uncertainty", CVPR 2018,
       :doi:`10.1109/CVPR.2018.00781`; for losses of the kind of cross-entropy:
       sum of exp(-s) L + s / 2.
    """

    def __init__(self, table: Mapping[str, Any], heads: Iterable[str]) -> None:
        super().__init__()
        self.kind = str(table.get("kind", "linear"))
        self.weights = {str(k): float(v) for k, v in table.get("weights", {}).items()}
        self.main = tuple(table.get("main", ()))
        self.heads = tuple(heads)
        _check(self)
        if self.kind == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.heads)))

    def forward(self, losses: Mapping[str, Tensor], progress: float) -> Tensor:
        """Combine the losses.

        Parameters
        ----------
        losses : mapping of str to Tensor
            Head -> scalar.
        progress : float
            Share of the training that is done, 0 to 1.
        """
        if self.kind == "uncertainty":
            places = torch.tensor([self.heads.index(head) for head in losses])
            s = self.log_variance[places.to(self.log_variance.device)]
            loss = torch.stack(list(losses.values()))
            return (torch.exp(-s) * loss + s / 2).mean()
        if self.kind == "scheduled":
            share = 1 - 0.5 * (1 - progress) ** 4
            main = [loss for head, loss in losses.items() if head in self.main]
            rest = [loss for head, loss in losses.items() if head not in self.main]
            return share * _mean(main) + (1 - share) * _mean(rest)
        return _mean([self.weights.get(h, 1.0) * loss for h, loss in losses.items()])


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean() if losses else torch.zeros(())


def _check(weighting: Weighting) -> None:
    named = {*weighting.weights, *weighting.main}
    if weighting.kind not in KINDS:
        raise WrongInput(
            f"The weighting {weighting.kind} is not known.",
            f"Choose {', '.join(KINDS)}.",
        )
    if unknown := sorted(named - {*weighting.heads}):
        raise WrongInput(
            f"The weighting names {unknown[0]}, which no set teaches.",
            f"The heads are {', '.join(weighting.heads)}.",
        )
    if weighting.kind == "scheduled" and not weighting.main:
        raise WrongInput(
            "The weighting is scheduled but names no main heads.",
            "List them: main = [...].",
        )
