"""From the scan's grid to what a model wants, and the way back.

Slice-wise models see the slices of the acquisition plane: axial slices with rows
towards Posterior and columns towards Left, coronal and sagittal ones upright (rows
towards Inferior). In-plane sizes are scaled with pixel edges aligned, so that the way
back is the same scaling with the numbers exchanged. A model can want another frame; see
`_frame`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._foreground import foreground
from ._frame import Frame as Frame
from ._frame import scale as scale
from ._frame import scale_labels as scale_labels
from ._hounsfield import eight_bit_window, to_hounsfield
from .errors import WrongInput
from .types import PLANES, ModelSpec, Plane, Volume

Array = NDArray[np.float32]

LONGEST_UNKNOWN = 256  # pixels of the longer side where neither file nor model knows mm


@dataclass(frozen=True, eq=False)
class Conformed:
    """A scan as a model wants it.

    Attributes
    ----------
    data : ndarray of float32
        Slice-wise: (slice, channel, row, column); volumetric: (1, channel, z, y, x).
    frame : Frame
        How the last two (three) axes were made, and how to go back.
    plane : {"axial", "coronal", "sagittal"}
        Along which the slices were taken.
    notes : tuple of str
        Fall-backs that were taken.
    """

    data: Array
    frame: Frame
    plane: Plane
    notes: tuple[str, ...] = ()

    @property
    def native(self) -> tuple[int, ...]:
        """Size of the last two (three) axes before scaling."""
        return self.frame.native


def conform(
    volume: Volume, spec: ModelSpec, *, modality: str, head: str | None = None
) -> Conformed:
    """Bring a scan to the spacing, order and intensities that a model wants.

    Parameters
    ----------
    volume : Volume
        A scan with the model's channels.
    spec : ModelSpec
        The model.
    modality : str
        Which intensity and spacing rule to use.
    head : str, optional
        Whose spacing rule to use, where the head has one of its own.

    Returns
    -------
    Conformed
        Scaled and normalised.

    Raises
    ------
    WrongInput
        If the channels do not match, or the model has no rule for the modality.
    """
    data = select_channels(volume, spec, head=head)
    rule = spec.intensity.get(modality)
    if rule is None:
        known = ", ".join(spec.intensity)
        raise WrongInput(
            f"The scan is of modality {modality}; the model knows {known}.",
            "State the modality, or choose another model.",
        )
    data, read_as = hounsfield(data, rule)
    as_seen = rule["kind"] == "standard"
    if not as_seen:
        data = normalise(data, rule)
    frame, notes = frame_of(volume, spec, modality=modality, head=head)
    if spec.slicewise:
        data = np.stack([to_slices(c, volume.plane) for c in data])
    seen = frame.enter(data)
    if as_seen:
        seen = normalise(seen, rule)
    ready = np.ascontiguousarray(seen.swapaxes(0, 1)) if spec.slicewise else seen[None]
    return Conformed(ready, frame, volume.plane, notes + read_as)


def frame_of(
    volume: Volume, spec: ModelSpec, *, modality: str, head: str | None = None
) -> tuple[Frame, tuple[str, ...]]:
    """Find the frame through which a model sees a scan; arguments as of `conform`.

    Returns
    -------
    frame : Frame
        Where the model sees what.
    notes : tuple of str
        Fall-backs that were taken.
    """
    rule = spacing_rule(spec, modality=modality, head=head)
    own = rule if isinstance(rule, Mapping) else {}
    whole, box = volume, Frame.box
    if own.get("foreground"):
        volume, box = foreground(whole, slicewise=spec.slicewise)
    size, notes = target_size(volume, spec, modality=modality, head=head)
    if not spec.slicewise:
        return Frame(whole.shape, size, box=box), notes
    native = _in_plane(whole.shape, whole.plane)
    # only axial slices have the directions that an orientation names
    orientation = spec.orientation if volume.plane == "axial" else Frame.orientation
    align, crop = own.get("align", "edges"), own.get("crop")
    frame = Frame(native, size, orientation, align, crop, box)
    if frame.cuts:
        known = "mm" in own and "spacing" in whole.known
        side = f"{crop * own['mm']:g} mm" if known else f"{crop} pixels"
        note = f"The model looks at the middle of each slice alone, {side} to a side."
        notes = (*notes, note)
    return frame, notes


def channels_of(spec: ModelSpec, head: str | None) -> tuple[str, ...]:
    """Return the channels that a head reads: its own, else the model's."""
    return tuple(spec.options.get("reads", {}).get(head, spec.channels))


def select_channels(
    volume: Volume, spec: ModelSpec, *, head: str | None = None
) -> NDArray[Any]:
    """Pick a head's channels by name; a single channel matches any name.

    Raises
    ------
    WrongInput
        If channels are missing, or several came where one is wanted.
    """
    wanted = channels_of(spec, head)
    if len(volume.names) == len(wanted) == 1:
        return volume.data
    if set(wanted) <= set(volume.names):
        return volume.data[[volume.names.index(name) for name in wanted]]
    raise WrongInput(
        f"{volume.source} has the channels {', '.join(volume.names)}; "
        f"the model needs {', '.join(wanted)}.",
        "Load the missing scan, or one channel alone.",
    )


def target_size(
    volume: Volume, spec: ModelSpec, *, modality: str, head: str | None = None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Compute the size that a scan is scaled to.

    Returns
    -------
    size : tuple of int
        Rows and columns of a slice, or z, y, x.
    notes : tuple of str
        Fall-backs that were taken.
    """
    shape: tuple[int, ...] = volume.shape
    spacing: tuple[float, ...] = volume.spacing_mm
    if spec.slicewise:
        shape = _in_plane(volume.shape, volume.plane)
        spacing = _in_plane(volume.spacing_mm, volume.plane)
    rule = spacing_rule(spec, modality=modality, head=head)
    if rule is None:
        return tuple(shape), ()
    notes: tuple[str, ...] = ()
    if isinstance(rule, Mapping) and "mm" in rule:
        rule = rule["mm"]
    if not isinstance(rule, Mapping) and "spacing" not in volume.known:
        rule = spec.spacing_mm.get("unknown", {"longest": LONGEST_UNKNOWN})
        notes = (
            "The scan has no voxel size: it was scaled to "
            f"{rule['longest']} pixels on its longer side.",
        )
    if isinstance(rule, Mapping):
        factor = rule["longest"] / max(shape)
        return tuple(max(1, round(n * factor)) for n in shape), notes
    wanted = np.broadcast_to(np.asarray(rule, dtype=float), len(shape))
    return tuple(
        max(1, round(n * mm / to))
        for n, mm, to in zip(shape, spacing, wanted, strict=True)
    ), notes


def spacing_rule(spec: ModelSpec, *, modality: str, head: str | None) -> Any:
    """Return the spacing rule of a head, else of a modality, else None."""
    if head is not None and head in spec.spacing_mm:
        return spec.spacing_mm[head]
    return spec.spacing_mm.get(modality)


def hounsfield(
    data: NDArray[Any], rule: Mapping[str, Any]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Bring an 8-bit CT back to Hounsfield units, where a rule wants them.

    Returns
    -------
    data : ndarray
        As it came, unless the rule is a window and the values are an 8-bit copy.
    notes : tuple of str
        Which window the copy was taken to be made with.
    """
    window = eight_bit_window(data) if rule["kind"] == "window" else None
    if window is None:
        return data, ()
    low, high = window
    note = f"The CT is 8-bit: 0 to 255 was read as {low:.0f} to {high:.0f} HU."
    return to_hounsfield(data, window), (note,)


def normalise(data: NDArray[Any], rule: Mapping[str, Any]) -> Array:
    """Scale grey values to about -1..1, each channel over the whole scan.

    Parameters
    ----------
    data : ndarray, shape (channel, z, y, x)
        Grey values.
    rule : mapping
        ``{"kind": "zscore", "low": p, "high": q}``: clip at these percentiles, then
        half of the z-score over the foreground (what is above 5 % of the range; air
        would otherwise decide). ``{"kind": "percentile", "low": p, "high": q}``: these
        percentiles become -1 and 1. ``{"kind": "window", "low": a, "high": b}``: these
        grey values (Hounsfield units) become -1 and 1. In both ``"onto": [a, b]`` puts
        other numbers in the place of -1 and 1. ``{"kind": "standard"}``: the z-score
        over all that the model sees (`conform` applies it last).

    Returns
    -------
    ndarray of float32
        Finite everywhere, also for a constant scan.
    """
    return np.stack([_normalise_channel(channel, rule) for channel in data])


def _normalise_channel(channel: NDArray[Any], rule: Mapping[str, Any]) -> Array:
    values = channel.astype(np.float32)
    if rule["kind"] == "standard":
        mean, deviation = values.mean(dtype=float), values.std(dtype=float)
        return (values - np.float32(mean)) / np.float32(max(deviation, 1e-6))
    if rule["kind"] == "window":
        low, high = float(rule["low"]), float(rule["high"])
    else:
        low, high = (
            float(p) for p in np.percentile(values, (rule["low"], rule["high"]))
        )
    values = np.clip(values, low, high)
    if high <= low:
        return np.zeros_like(values)
    if rule["kind"] != "zscore":
        bottom, top = rule.get("onto", (-1, 1))
        share = (values - np.float32(low)) * np.float32((top - bottom) / (high - low))
        return share + np.float32(bottom)
    foreground = values[values > low + 0.05 * (high - low)]
    if not foreground.size:
        foreground = values.ravel()
    mean = float(foreground.mean(dtype=np.float64))
    deviation = float(foreground.std(dtype=np.float64))
    return (values - np.float32(mean)) * np.float32(0.5 / max(deviation, 1e-6))


def to_slices(array: NDArray[Any], plane: Plane) -> NDArray[Any]:
    """Turn (z, y, x) into (slice, row, column) of a plane."""
    axis = PLANES.index(plane)
    slices = np.moveaxis(array, axis, 0)
    return slices if axis == 0 else slices[:, ::-1]


def from_slices(slices: NDArray[Any], plane: Plane) -> NDArray[Any]:
    """Turn (slice, row, column) into (z, y, x): inverse of `to_slices`."""
    axis = PLANES.index(plane)
    upright = slices if axis == 0 else slices[:, ::-1]
    return np.moveaxis(upright, 0, axis)


def _in_plane(values: tuple[Any, Any, Any], plane: Plane) -> tuple[Any, Any]:
    first, second = (v for i, v in enumerate(values) if i != PLANES.index(plane))
    return first, second
