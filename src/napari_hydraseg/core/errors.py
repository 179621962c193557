"""Errors that a user can mend: what was wanted, what came, what to do.

None of them derives from ``RuntimeError``: worker threads of napari swallow that class.
"""


class HydraSegError(Exception):
    """Something that the user can put right.

    Parameters
    ----------
    what : str
        What was wanted and what came, without a full path.
    hint : str
        One action the user can take.
    option : str
        What takes it on the command line, and there alone.
    """

    code = "HS-000"
    exit_status = 9

    def __init__(self, what: str, hint: str = "", option: str = "") -> None:
        super().__init__(what, hint, option)
        self.what = what
        self.hint = hint
        self.option = option

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".strip()

    @property
    def in_terminal(self) -> str:
        """What the command line says: the hint with its option."""
        said = str(self)
        return f"{said.removesuffix('.')} ({self.option})." if self.option else said


class VolumeReadError(HydraSegError):
    """A scan could not be read."""

    code, exit_status = "HS-300", 3


class NotAVolume(VolumeReadError):
    """The file is no image that we know."""

    code = "HS-301"


class TruncatedFile(VolumeReadError):
    """The file ends early or its checksum is wrong."""

    code = "HS-302"


class UnsupportedShape(VolumeReadError):
    """The array has too few or too many dimensions."""

    code = "HS-303"


class UnsupportedDtype(VolumeReadError):
    """The voxels are of a kind that is no grey value (colour, complex)."""

    code = "HS-304"


class NonFiniteVolume(VolumeReadError):
    """Not one voxel is a finite number."""

    code = "HS-305"


class VolumeTooLarge(VolumeReadError):
    """The header promises more voxels than can be held."""

    code = "HS-306"


class GeometryError(VolumeReadError):
    """The header's geometry cannot be used."""

    code = "HS-310"


class SingularAffine(GeometryError):
    """The affine maps the volume onto a plane, a line or nothing."""

    code = "HS-311"


class BadSpacing(GeometryError):
    """A voxel size is zero, infinite or no number."""

    code = "HS-312"


class DicomSeriesError(VolumeReadError):
    """The slices of a DICOM series make no even volume."""

    code = "HS-330"


class MissingSlices(DicomSeriesError):
    """A series has gaps."""

    code = "HS-331"


class MixedSeries(DicomSeriesError):
    """There is more than one series, or more than one stack of slices in it."""

    code = "HS-332"


class UnsupportedTransferSyntax(DicomSeriesError):
    """The pixels are compressed in a way that cannot be read here."""

    code = "HS-333"


class WrongInput(HydraSegError):
    """A scan that can be read but does not suit the request (channels, modality)."""

    code, exit_status = "HS-320", 3


class GeometryMismatchError(HydraSegError):
    """Two things that must share a grid do not."""

    code, exit_status = "HS-400", 4


class AnnotationError(HydraSegError):
    """The annotation cannot be learned from."""

    code, exit_status = "HS-410", 4


class EmptyAnnotation(AnnotationError):
    """Nothing is painted."""

    code = "HS-411"


class LabelShape(AnnotationError):
    """The labels have another shape than the image."""

    code = "HS-412"


class LabelDtype(AnnotationError):
    """The labels are not whole numbers."""

    code = "HS-413"


class UnknownLabelId(AnnotationError):
    """A label id has no class."""

    code = "HS-414"


class WeightsError(HydraSegError):
    """A model file or a model name cannot be used."""

    code, exit_status = "HS-500", 5


class UnknownModel(WeightsError):
    """No model or head of that name."""

    code = "HS-501"


class CorruptWeights(WeightsError):
    """The model file is damaged."""

    code = "HS-502"


class ChecksumMismatch(CorruptWeights):
    """The tensors are not those that were saved."""

    code = "HS-503"


class UnsafeWeights(WeightsError):
    """The file is a pickle, which could run code when it is opened."""

    code = "HS-504"


class IncompatibleWeights(WeightsError):
    """Tensors and network disagree."""

    code = "HS-505"


class FutureFormat(WeightsError):
    """The file was written by a newer version."""

    code = "HS-506"


class DeviceError(HydraSegError):
    """The processor that was asked for cannot be used."""

    code, exit_status = "HS-600", 6


class DeviceUnavailable(DeviceError):
    """There is no such device here."""

    code = "HS-601"


class OutOfMemory(DeviceError):
    """The memory does not suffice."""

    code = "HS-602"


class SaveError(HydraSegError):
    """A result could not be written."""

    code, exit_status = "HS-700", 7


class NotWritable(SaveError):
    """The folder or the file may not be written."""

    code = "HS-701"


class NoSpace(SaveError):
    """The disk is full."""

    code = "HS-702"


class WouldOverwrite(SaveError):
    """The file is there already."""

    code = "HS-703"


class WouldOverwriteSource(WouldOverwrite):
    """The file is the scan that the result was made from."""

    code = "HS-704"


class JobError(HydraSegError):
    """A job could not start or go on."""

    code, exit_status = "HS-900", 9


class JobBusy(JobError):
    """Another job is running."""

    code = "HS-901"


class TrainingDiverged(JobError):
    """The loss is no longer a number."""

    code = "HS-902"


class StatisticsError(HydraSegError):
    """A statistic cannot be computed from these numbers."""

    code, exit_status = "HS-910", 9


class TooFewSamples(StatisticsError):
    """Too few samples."""

    code = "HS-911"


class DimensionMismatch(StatisticsError):
    """The samples have different numbers of features."""

    code = "HS-912"


class NonFiniteFeatures(StatisticsError):
    """A feature is not a finite number."""

    code = "HS-913"
