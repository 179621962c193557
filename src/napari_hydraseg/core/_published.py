"""Kinds of published weights; their translators need torch, which these names do not.

A list that is chosen from must not load torch.
"""

KINDS = (
    "hydranet",
    "sct-gm",
    "keras-unet",
    "quicknat",
    "quickfcn",
    "softquickfcn",
    "resultnet",
)
