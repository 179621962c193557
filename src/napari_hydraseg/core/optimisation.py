"""The one loop of gradient steps that fine-tuning and pre-training share."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import TrainingDiverged

CLIP = 5.0  # largest gradient norm
WARM_UP = 30  # steps
WARM_SHARE = 0.1  # of the budget, where that is less: a short run must not end in it


def adamw(groups: Sequence[Mapping[str, Any]]) -> torch.optim.AdamW:
    """Make the optimiser of `optimise`.

    Parameters
    ----------
    groups : sequence of mapping
        ``{"params": [...], "lr": peak learning rate}``.
    """
    # the peak stands in the group, so that a saved state knows it
    return torch.optim.AdamW(
        [{**group, "peak": group["lr"]} for group in groups],
        weight_decay=1e-4,
        fused=True,
    )


def prepare() -> None:
    """Load what the first optimiser of a process needs: seconds of imports.

    Called ahead of time, in a thread, it keeps a window from waiting for them.
    """
    weight = nn.Parameter(torch.zeros(1))
    first = adamw([{"params": [weight], "lr": 0.0}])
    weight.grad = torch.zeros(1)
    first.step()


def optimise(
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[], Tensor],
    progress: Callable[[int], float],
    *,
    first: int = 0,
    gather: Callable[[Sequence[nn.Parameter]], None] | None = None,
    mend: Callable[[], bool] | None = None,
) -> Iterator[float]:
    """Take gradient steps until the budget is used up.

    Linear warm-up, cosine decay, clipped gradients.

    Parameters
    ----------
    optimiser : Optimizer
        From `adamw`.
    loss_of : callable
        Draws a batch and returns the loss; one that takes no gradients was already
        back-propagated.
    progress : callable
        Steps taken -> share of the budget used, 0 to 1: steps, or minutes.
    first : int
        Steps taken in an earlier run.
    gather : callable, optional
        What is done with the gradients before they are clipped (averaged over
        processes).
    mend : callable, optional
        Asked when the loss was no number three times in a row; returns whether it put
        things right.

    Yields
    ------
    float
        The loss of each step.

    Raises
    ------
    TrainingDiverged
        If the loss was no finite number three times in a row.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    step, failures = first, 0
    while (share := progress(step)) < 1:
        warm = min(1, max((step + 1) / WARM_UP, share / WARM_SHARE))
        factor = warm * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of()
        if torch.isfinite(loss):
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if gather is not None:
                gather(parameters)
            norm = nn.utils.clip_grad_norm_(parameters, CLIP)
        if torch.isfinite(loss) and torch.isfinite(norm):
            failures = 0
            optimiser.step()
        else:
            failures += 1
        if failures == 3 and mend is not None and mend():
            failures = 0
        if failures == 3:
            raise TrainingDiverged(
                "The training loss was no number three times in a row.",
                "Check the scans for extreme values.",
            )
        step += 1
        yield float(loss.detach())
