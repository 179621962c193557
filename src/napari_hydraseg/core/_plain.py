"""Values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Turn a value into what JSON has: arrays to lists, ``nan`` and ``inf`` to null.

    Parameters
    ----------
    value : object
        Mappings, sequences, arrays, NumPy numbers, paths, text, numbers, None.

    Returns
    -------
    object
        Of dict, list, str, int, float, bool and None only.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else str(value)
