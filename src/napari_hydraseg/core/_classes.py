"""Which label of which scan is which class of a head.

Names belong to a scan: label 1 may be the liver in one and the spleen in the next.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from .errors import AnnotationError, UnknownLabelId
from .losses import IGNORE
from .types import Segmentation

MOST = IGNORE - 1  # classes have 8 bits; 0 is background
Classes: TypeAlias = Mapping[int, int]
"""Label id -> class index."""


def classes_of(
    segmentations: Sequence[Segmentation],
    existing: tuple[str, ...] | None,
    class_names: Sequence[str],
) -> tuple[tuple[str, ...], tuple[Classes, ...]]:
    """Match the label ids of each scan with classes.

    Parameters
    ----------
    segmentations : sequence of Segmentation
        All annotated scans. A label without a name has that which other scans give it.
    existing : tuple of str or None
        Classes of the head, background first, if it is not a new one. Those of a new
        one are all that are painted in any scan.
    class_names : sequence of str
        Names for the ids in increasing order; default: the labels' own names.

    Returns
    -------
    names : tuple of str
        Background first.
    classes : tuple of mapping of int to int
        Label id -> class index, for each scan.

    Raises
    ------
    AnnotationError
        If names and ids differ in number, or names contradict each other, or there are
        too many classes.
    UnknownLabelId
        If an id fits no class of the existing head, or has several names.
    """
    ids = [painted(segmentation) for segmentation in segmentations]
    own = [dict(segmentation.names) for segmentation in segmentations]
    if class_names:
        tables = [_given(ids, own, class_names)] * len(ids)
    else:
        tables = [_named(*pair, own) for pair in zip(ids, own, strict=True)]
    if existing is not None:
        numbers = {} if class_names else {i: i for i in range(1, len(existing))}
        pairs = zip(ids, tables, strict=True)
        return existing, tuple(match(*pair, existing, numbers) for pair in pairs)
    if not class_names:
        tables = [
            {i: table.get(i) or f"class {i}" for i in some}
            for some, table in zip(ids, tables, strict=True)
        ]
    named = sorted((i for table in tables for i in table.items()), key=lambda i: i[0])
    names = tuple(dict.fromkeys(name for _, name in named))
    if len(names) > MOST:
        raise AnnotationError(
            f"A head learns {MOST} classes at most; the labels have {len(names)}.",
            "Give a label image, not a picture, or fewer labels.",
        )
    index = {name: k for k, name in enumerate(names, 1)}
    return ("background", *names), tuple(
        {label: index[name] for label, name in table.items()} for table in tables
    )


def painted(segmentation: Segmentation) -> list[int]:
    """List the label ids that occur."""
    return [int(i) for i in np.unique(segmentation.labels) if i]


def match(
    ids: Sequence[int],
    own: Mapping[int, str],
    names: Sequence[str],
    numbers: Classes,
) -> dict[int, int]:
    """Match the labels of a scan with classes: by name, else by number.

    Parameters
    ----------
    ids : sequence of int
        Painted labels.
    own : mapping of int to str
        Names of the scan's labels.
    names : sequence of str
        Classes, background first.
    numbers : mapping of int to int
        Label id -> class index, for a scan that names no label as a class is named.

    Raises
    ------
    UnknownLabelId
        If a label is no class, or some have names of classes and others have not.
    """
    index = {name: k for k, name in enumerate(names) if k}
    found = {i: index[own[i]] for i in ids if own.get(i) in index}
    strange = [i for i in ids if i not in found]
    if not strange:
        return found
    known = ", ".join(names[1:])
    if set(index) & set(own.values()):
        name = own.get(strange[0])
        raise UnknownLabelId(
            f"The classes are {known}, and labels are called so; label {strange[0]} "
            + (f"is called {name}." if name else "has no name."),
            "Give each painted label the name of its class, or train a new head.",
        )
    if strange := [i for i in ids if i not in numbers]:
        raise UnknownLabelId(
            f"The classes are {known}; labels {strange} are painted.",
            "Rename them, or train a new head.",
        )
    return {i: numbers[i] for i in ids}


def agreed(classes: Sequence[Classes]) -> dict[int, int]:
    """Label id -> class index, of the ids that mean one class in all scans."""
    meant: dict[int, set[int]] = {}
    for label, index in (pair for table in classes for pair in table.items()):
        meant.setdefault(label, set()).add(index)
    return {label: found.pop() for label, found in meant.items() if len(found) == 1}


def _given(
    ids: Sequence[Sequence[int]],
    own: Sequence[Mapping[int, str]],
    class_names: Sequence[str],
) -> dict[int, str]:
    """Name labels as asked for, from 1 on, so that a class may stay unpainted."""
    every = sorted({i for some in ids for i in some})
    counted = max(every, default=0) <= len(class_names)
    if not counted and len(class_names) != len(every):
        raise AnnotationError(
            f"{len(every)} label ids are painted, up to {every[-1]}; "
            f"{len(class_names)} names came.",
            "Give one name per label id.",
        )
    places = range(1, len(class_names) + 1) if counted else every
    given = dict(zip(places, class_names, strict=True))
    for some, table in zip(ids, own, strict=True):
        for i in some:
            if table.get(i) in class_names and table[i] != given[i]:
                raise AnnotationError(
                    f"Label {i} is called {table[i]} in a scan; as the names were "
                    f"given, it is {given[i]}.",
                    "Give the names in the order of the labels, or none.",
                )
    return given


def _named(
    ids: Sequence[int], own: Mapping[int, str], tables: Sequence[Mapping[int, str]]
) -> dict[int, str]:
    """Name labels that a scan does not name as the other scans do."""
    found = {i: name for i, name in own.items() if name}
    for i in (i for i in ids if not own.get(i)):
        others = {name for table in tables if (name := table.get(i))}
        if len(others) > 1 or others & set(own.values()):
            raise UnknownLabelId(
                f"Label {i} of a scan has no name; elsewhere it is called "
                f"{' or '.join(sorted(others))}.",
                "Name the labels of all scans.",
            )
        for name in others:
            found[i] = name
    return found
