"""Drawing the figures of a report: data in, a picture as data URI out.

Charts become SVG, slices PNG. Matplotlib's figures are used without pyplot, which
holds global state and would open a window in a viewer's process.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
OPACITY = 0.45  # of a mask on its slice


def data_uri(figure: Mapping[str, Any]) -> str:
    """Draw one figure of a report.

    Parameters
    ----------
    figure : mapping
        ``kind`` and ``title``, and by kind:

        * "line", "scatter": ``series``, a list of ``{"name", "x", "y"}``; optional
          ``x_label``, ``y_label``, ``y_range``;
        * "bar": ``names`` and ``values``; optional ``low``, ``high``, ``y_label``,
          ``y_range``;
        * "matrix": ``names`` and ``values``, one row and column per name;
        * "image": ``image``, a 2-D array; optional ``labels``, a 2-D array of ids on
          it, ``names`` of the ids, and ``aspect``, the height of a pixel over its
          width.

    Returns
    -------
    str
        ``data:image/...;base64,...``

    Raises
    ------
    ValueError
        If the kind is none of these.
    """
    if figure["kind"] == "image":
        return _encoded("image/png", png_of_slice(**_image_arguments(figure)))
    drawn = _blank(6.0, 3.2)
    axes = drawn.add_subplot()
    _PLOTS.get(figure["kind"], _unknown)(axes, figure)
    axes.set_ylabel(figure.get("y_label", ""))
    if figure["kind"] != "matrix":
        axes.set_ylim(*figure.get("y_range", (None, None)))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return _encoded("image/svg+xml", buffer.getvalue())


def png_of_slice(
    image: NDArray[Any],
    *,
    labels: NDArray[Any] | None = None,
    names: Mapping[int, str] | None = None,
    aspect: float = 1.0,
    title: str = "",
) -> bytes:
    """Draw a slice in grey with the labels in colour on it.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        Grey values; shown from the 1st to the 99th percentile.
    labels : ndarray of int, same shape, optional
        0 is left clear.
    names : mapping of int to str, optional
        For the legend; every id gets its own colour, the same in every picture.
    aspect : float
        Height of a pixel over its width.
    title : str
        Above the picture.

    Returns
    -------
    bytes
        A PNG file.
    """
    drawn = _blank(4.8, 4.4)
    axes = drawn.add_subplot()
    low, high = np.percentile(image, [1, 99])
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect)
    if labels is not None:
        axes.imshow(_coloured(labels), aspect=aspect, interpolation="nearest")
        _legend(axes, names or {})
    axes.set_title(_plain(title), fontsize=10)
    axes.set_axis_off()
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _blank(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import, and only reports draw

    return Figure(figsize=(width, height), layout="constrained")


def _series(axes: Axes, figure: Mapping[str, Any]) -> None:
    for number, series in enumerate(figure["series"]):
        axes.plot(
            series["x"],
            series["y"],
            "o" if figure["kind"] == "scatter" else "o-",
            markersize=4,
            color=COLOURS[number % len(COLOURS)],
            label=_plain(series["name"]),
        )
    axes.set_xlabel(_plain(figure.get("x_label", "")))
    axes.locator_params(axis="x", integer=True)  # epochs, slices, cases
    if len(figure["series"]) > 1:
        axes.legend(fontsize=8)


def _bar(axes: Axes, figure: Mapping[str, Any]) -> None:
    values = np.array(figure["values"], dtype=float)
    names = [_plain(name) for name in figure["names"]]
    places = np.arange(values.size)
    axes.bar(places, values, color=COLOURS[0], width=0.6)
    axes.set_xticks(places, names)
    axes.set_xlim(-0.7, max(values.size, 3) - 0.3)  # a single bar is no wall
    if "low" in figure:
        low, high = np.array(figure["low"], float), np.array(figure["high"], float)
        ways = np.nan_to_num(np.clip([values - low, high - values], 0, None))
        axes.errorbar(places, values, yerr=ways, fmt="none", color="black", capsize=4)


def _matrix(axes: Axes, figure: Mapping[str, Any]) -> None:
    values = np.array(figure["values"], dtype=float)
    names = [_plain(name) for name in figure["names"]]
    axes.imshow(values, cmap="cividis", aspect="auto")
    half = (values.min() + values.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > half else "white"
        axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)


def _unknown(axes: Axes, figure: Mapping[str, Any]) -> None:
    raise ValueError(f"figures are {', '.join(_PLOTS)} or image, not {figure['kind']}")


_PLOTS = {"line": _series, "scatter": _series, "bar": _bar, "matrix": _matrix}


def _image_arguments(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figure[key] for key in figure if key not in ("kind", "title")}


def _coloured(labels: NDArray[Any]) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgba

    table = np.array([to_rgba(colour, OPACITY) for colour in COLOURS])
    picture = table[(labels.astype(int) - 1) % len(COLOURS)]  # (rows, columns, 4)
    picture[labels == 0] = 0
    found: NDArray[np.float64] = picture
    return found


def _legend(axes: Axes, names: Mapping[int, str]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(color=COLOURS[(id - 1) % len(COLOURS)], label=_plain(name))
        for id, name in names.items()
        if id
    ]
    if patches:
        axes.legend(handles=patches, fontsize=8, loc="lower right")


def _plain(text: object) -> str:
    # A pair of dollar signs would start Matplotlib's mathematics.
    return str(text).replace("$", r"\$")


def _encoded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
