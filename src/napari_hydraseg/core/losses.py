"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
"""Label of voxels that nobody vouches for: no loss, no gradient, no metric."""

EPS = 1e-5  # keeps an absent class's Dice defined; 1e-8 underflows in half precision


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice, over the voxels that are vouched for.

    Parameters
    ----------
    logits : Tensor, shape (n, class, *size)
        Background first.
    labels : Tensor of int64, shape (n, *size)
        Class indices; `IGNORE` where unknown.

    Returns
    -------
    Tensor
        A scalar; 0 with zero gradient if nothing is vouched for.

    References
    ----------
    .. [1] F. Milletari et al., "V-Net", 3DV 2016. :doi:`10.1109/3DV.2016.79`
    """
    if not (labels != IGNORE).any():
        return logits.sum() * 0
    shares = logits.float().log_softmax(1)
    entropy = F.nll_loss(shares, labels, ignore_index=IGNORE)
    return entropy + _soft_dice(shares.exp(), labels)


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean soft Dice of the foreground classes in the batch.

    A class that the batch does not hold is left out: cross-entropy pays for false
    alarms, and an empty class has no overlap to speak of.

    Parameters
    ----------
    logits, labels : Tensor
        As in `segmentation_loss`.

    Returns
    -------
    Tensor
        A scalar; 0 if no foreground class is there.
    """
    return _soft_dice(logits.float().softmax(1), labels)


def _soft_dice(share: Tensor, labels: Tensor) -> Tensor:
    """Compute `soft_dice_loss` of probabilities, class by class: one-hot maps cost."""
    known = (labels != IGNORE).to(share.dtype)
    dice, present = [], []
    for k in range(1, share.shape[1]):
        truth = (labels == k).to(share.dtype)
        own, size = share[:, k], truth.sum()
        both = (own * known).sum() + size
        dice.append((2 * (own * truth).sum() + EPS) / (both + EPS))
        present.append(size > 0)
    there = torch.stack(present)
    return ((1 - torch.stack(dice)) * there).sum() / there.sum().clamp(min=1)


def hard_dice_counts(answer: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count what the Dice of each foreground class is made of.

    Parameters
    ----------
    answer, labels : Tensor of int64, any equal shape
        Class indices; where `labels` is `IGNORE`, nothing is counted.
    classes : int
        Background included.

    Returns
    -------
    Tensor, shape (2, classes - 1)
        Twice the shared voxels; the voxels of both.
    """
    known = labels != IGNORE
    answer, labels = answer[known], labels[known]
    rows = [
        torch.stack(
            [2 * ((answer == k) & (labels == k)).sum(), _sizes(answer, labels, k)]
        )
        for k in range(1, classes)
    ]
    return torch.stack(rows, 1)


def _sizes(answer: Tensor, labels: Tensor, k: int) -> Tensor:
    return (answer == k).sum() + (labels == k).sum()
