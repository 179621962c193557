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
    known = labels != IGNORE
    if not known.any():
        return logits.sum() * 0
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    return entropy + soft_dice_loss(logits, labels)


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
    classes = logits.shape[1]
    known = (labels != IGNORE).unsqueeze(1)
    share = logits.float().softmax(1) * known  # (n, class, *size)
    index = labels.where(labels != IGNORE, 0)
    truth = F.one_hot(index, classes).movedim(-1, 1) * known
    over = [0, *range(2, logits.ndim)]
    shared = (share * truth).sum(over)[1:]
    sizes = (share.sum(over) + truth.sum(over))[1:]
    present = truth.sum(over)[1:] > 0
    if not present.any():
        return logits.sum() * 0
    return 1 - ((2 * shared + EPS) / (sizes + EPS))[present].mean()


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
