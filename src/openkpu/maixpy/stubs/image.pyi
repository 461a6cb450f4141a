"""MaixPy v1: images. Coordinates may also come as one tuple or list; integer colours are RGB565 with the bytes swapped.

Most drawing and filtering methods change the image and return it. They change the packed pixels only: call
``pix_to_ai()`` before the image goes to the KPU.
"""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Self, overload

_Color = int | Sequence[int]
_Roi = Sequence[int]
_Thresholds = Sequence[Sequence[int]]

class _Blob:
    """A region that find_blobs() found."""

    def x(self) -> int: ...
    def y(self) -> int: ...
    def w(self) -> int: ...
    def h(self) -> int: ...
    def pixels(self) -> int: ...
    def cx(self) -> int: ...
    def cy(self) -> int: ...
    def rotation(self) -> float: ...
    def code(self) -> int: ...
    def count(self) -> int: ...
    def rect(self) -> tuple[int, int, int, int]: ...
    def area(self) -> int: ...
    def density(self) -> float: ...
    def __getitem__(self, index: Any) -> Any: ...

class _Statistics:
    """Statistics of L (or gray), A and B."""

    def mean(self) -> int: ...
    def median(self) -> int: ...
    def mode(self) -> int: ...
    def stdev(self) -> int: ...
    def min(self) -> int: ...
    def max(self) -> int: ...
    def lq(self) -> int: ...
    def uq(self) -> int: ...
    def l_mean(self) -> int: ...
    def l_median(self) -> int: ...
    def l_mode(self) -> int: ...
    def l_stdev(self) -> int: ...
    def l_min(self) -> int: ...
    def l_max(self) -> int: ...
    def l_lq(self) -> int: ...
    def l_uq(self) -> int: ...
    def a_mean(self) -> int: ...
    def a_median(self) -> int: ...
    def a_mode(self) -> int: ...
    def a_stdev(self) -> int: ...
    def a_min(self) -> int: ...
    def a_max(self) -> int: ...
    def a_lq(self) -> int: ...
    def a_uq(self) -> int: ...
    def b_mean(self) -> int: ...
    def b_median(self) -> int: ...
    def b_mode(self) -> int: ...
    def b_stdev(self) -> int: ...
    def b_min(self) -> int: ...
    def b_max(self) -> int: ...
    def b_lq(self) -> int: ...
    def b_uq(self) -> int: ...
    def __getitem__(self, index: Any) -> Any: ...

class _Value:
    """A level of L (or gray), A and B."""

    def value(self) -> int: ...
    def l_value(self) -> int: ...
    def a_value(self) -> int: ...
    def b_value(self) -> int: ...
    def __getitem__(self, index: Any) -> Any: ...

class _Histogram:
    """Shares of the levels of L (or gray), A and B."""

    def bins(self) -> list[float]: ...
    def l_bins(self) -> list[float]: ...
    def a_bins(self) -> list[float]: ...
    def b_bins(self) -> list[float]: ...
    def get_percentile(self, percentile: float) -> _Value: ...
    def get_threshold(self) -> _Value: ...
    def get_statistics(self) -> _Statistics: ...
    def get_stats(self) -> _Statistics: ...
    def statistics(self) -> _Statistics: ...
    def __getitem__(self, index: Any) -> Any: ...

class Image:
    """An image; on the board this name is a function."""

    def __init__(
        self,
        source: str | bytes | BinaryIO = ...,
        *,
        copy_to_fb: bool = False,
        from_bytes: bool = False,
        size: tuple[int, int] = ...,
    ) -> None:
        """Load a BMP or JPEG, or make a black RGB565 image."""

    def __getitem__(self, index: Any) -> Any: ...
    def __setitem__(self, index: Any, value: Any) -> None: ...
    def width(self) -> int:
        """Width in pixels."""

    def height(self) -> int:
        """Height in pixels."""

    def format(self) -> int | None:
        """Number of the pixel format, as in sensor; None for a binary image."""

    def size(self) -> int:
        """Bytes of the packed pixels."""

    def to_bytes(self) -> bytearray:
        """The packed pixels as they lie in memory."""

    @overload
    def get_pixel(self, x: int, y: int, rgbtuple: bool = ...) -> Any:
        """(r, g, b) or gray level at x, y; None outside."""
    @overload
    def get_pixel(self, xy: Sequence[int], /, rgbtuple: bool = ...) -> Any:
        """(r, g, b) or gray level at x, y; None outside. The coordinates in one group."""

    @overload
    def set_pixel(self, x: int, y: int, color: _Color = 65535) -> Self:
        """Set one pixel."""
    @overload
    def set_pixel(self, xy: Sequence[int], /, color: _Color = 65535) -> Self:
        """Set one pixel. The coordinates in one group."""

    def mean_pool(self, x_div: int, y_div: int, /) -> Self:
        """Shrink the image itself to the means of blocks."""

    def mean_pooled(self, x_div: int, y_div: int, /) -> Self:
        """A new image of the means of blocks."""

    def midpoint_pool(self, x_div: int, y_div: int, bias: float = 0.5) -> Self:
        """Shrink the image itself to mixes of the extremes of blocks."""

    def midpoint_pooled(self, x_div: int, y_div: int, bias: float = 0.5) -> Self:
        """A new image of mixes of the extremes of blocks."""

    def to_bitmap(self, copy: bool = False) -> Self:
        """Black and white."""

    def to_grayscale(self, copy: bool = False) -> Self:
        """Grayscale."""

    def to_rgb565(self, copy: bool = False) -> Self:
        """RGB565; a grayscale image needs copy=True."""

    def to_rainbow(self, copy: bool = False) -> Self:
        """False colours; a grayscale image needs copy=True."""

    def compress(self, quality: int = 50) -> Self:
        """Turn the image itself into a JPEG."""

    def compressed(self, quality: int = 50) -> Self:
        """A JPEG of the image."""

    def compress_for_ide(self, quality: int = 50) -> Self:
        """Turn the image itself into a JPEG for the IDE."""

    def compressed_for_ide(self, quality: int = 50) -> Self:
        """A JPEG for the IDE."""

    def copy(
        self,
        roi: _Roi = ...,
        x_scale: float = 1.0,
        y_scale: float = 1.0,
        copy_to_fb: bool | Image = False,
    ) -> Self:
        """A copy; call pix_to_ai() on it before the KPU reads it."""

    def crop(self, roi: _Roi = ..., x_scale: float = 1.0, y_scale: float = 1.0, copy: bool | Image = False) -> Self:
        """Cut the image itself down."""

    def save(self, path: str, roi: _Roi = ..., quality: int = 50) -> Self:
        """Write a .bmp or .jpg file."""

    def clear(self) -> Self:
        """Set every pixel to 0."""

    @overload
    def draw_line(self, x0: int, y0: int, x1: int, y1: int, color: _Color = 65535, thickness: int = 1) -> Self:
        """Draw a line."""
    @overload
    def draw_line(self, line: Sequence[int], /, color: _Color = 65535, thickness: int = 1) -> Self:
        """Draw a line. The coordinates in one group."""

    @overload
    def draw_rectangle(
        self,
        x: int,
        y: int,
        w: int,
        h: int,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw a rectangle."""
    @overload
    def draw_rectangle(
        self,
        rect: Sequence[int],
        /,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw a rectangle. The coordinates in one group."""

    @overload
    def draw_circle(
        self,
        x: int,
        y: int,
        radius: int,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw a circle."""
    @overload
    def draw_circle(
        self,
        circle: Sequence[int],
        /,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw a circle. The coordinates in one group."""

    @overload
    def draw_ellipse(
        self,
        x: int,
        y: int,
        rx: int,
        ry: int,
        rotation: int = 0,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw an ellipse."""
    @overload
    def draw_ellipse(
        self,
        ellipse: Sequence[int],
        /,
        rotation: int = 0,
        color: _Color = 65535,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw an ellipse. The coordinates in one group."""

    @overload
    def draw_font(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        font: bytes,
        color: _Color = 65535,
        scale: float = 1.0,
    ) -> Self:
        """Draw one bitmap."""
    @overload
    def draw_font(self, group: Sequence[Any], /, color: _Color = 65535, scale: float = 1.0) -> Self:
        """Draw one bitmap. The coordinates in one group."""

    @overload
    def draw_string(
        self,
        x: int,
        y: int,
        text: str,
        color: _Color = 65535,
        scale: float = 1.0,
        x_spacing: int = 0,
        y_spacing: int = 2,
        mono_space: bool = False,
    ) -> Self:
        """Write text."""
    @overload
    def draw_string(
        self,
        group: Sequence[Any],
        /,
        color: _Color = 65535,
        scale: float = 1.0,
        x_spacing: int = 0,
        y_spacing: int = 2,
        mono_space: bool = False,
    ) -> Self:
        """Write text. The coordinates in one group."""

    @overload
    def draw_cross(self, x: int, y: int, color: _Color = 65535, size: int = 5, thickness: int = 1) -> Self:
        """Draw a cross."""
    @overload
    def draw_cross(self, xy: Sequence[int], /, color: _Color = 65535, size: int = 5, thickness: int = 1) -> Self:
        """Draw a cross. The coordinates in one group."""

    @overload
    def draw_arrow(
        self,
        x0: int,
        y0: int,
        x1: int,
        y1: int,
        color: _Color = 65535,
        size: int = 10,
        thickness: int = 1,
    ) -> Self:
        """Draw an arrow to x1, y1."""
    @overload
    def draw_arrow(self, line: Sequence[int], /, color: _Color = 65535, size: int = 10, thickness: int = 1) -> Self:
        """Draw an arrow to x1, y1. The coordinates in one group."""

    @overload
    def draw_image(
        self,
        image: Image,
        x: int,
        y: int,
        x_scale: float = 1.0,
        y_scale: float = 1.0,
        alpha: int = 256,
        mask: Image = ...,
    ) -> Self:
        """Draw another image."""
    @overload
    def draw_image(
        self,
        image: Image,
        xy: Sequence[int],
        /,
        x_scale: float = 1.0,
        y_scale: float = 1.0,
        alpha: int = 256,
        mask: Image = ...,
    ) -> Self:
        """Draw another image. The coordinates in one group."""

    def draw_keypoints(
        self,
        points: Sequence[Sequence[int]],
        color: _Color = 65535,
        size: int = 10,
        thickness: int = 1,
        fill: bool = False,
    ) -> Self:
        """Draw points (x, y, angle)."""

    @overload
    def flood_fill(
        self,
        x: int,
        y: int,
        seed_threshold: float = 0.05,
        floating_threshold: float = 0.05,
        color: _Color = 65535,
        invert: bool = False,
        clear_background: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Fill a region."""
    @overload
    def flood_fill(
        self,
        xy: Sequence[int],
        /,
        seed_threshold: float = 0.05,
        floating_threshold: float = 0.05,
        color: _Color = 65535,
        invert: bool = False,
        clear_background: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Fill a region. The coordinates in one group."""

    def binary(
        self,
        thresholds: _Thresholds,
        invert: bool = False,
        zero: bool = False,
        mask: Image = ...,
        to_bitmap: bool = False,
        copy: bool = False,
    ) -> Self:
        """White within the thresholds, black elsewhere."""

    def invert(self) -> Self:
        """Flip every bit."""

    def b_and(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def b_nand(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def b_or(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def b_nor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def b_xor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def b_xnor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def nand(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def nor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def xor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def xnor(self, other: _Operand, mask: Image = ...) -> Self:
        """Does nothing in this firmware."""

    def erode(self, ksize: int, threshold: int = ..., mask: Image = ...) -> Self:
        """Remove white at borders."""

    def dilate(self, ksize: int, threshold: int = 0, mask: Image = ...) -> Self:
        """Add white at borders."""

    def open(self, ksize: int, threshold: int = 0, mask: Image = ...) -> Self:
        """Erode, then dilate."""

    def close(self, ksize: int, threshold: int = 0, mask: Image = ...) -> Self:
        """Dilate, then erode."""

    def top_hat(self, ksize: int, threshold: int = 0, mask: Image = ...) -> Self:
        """What open() removes."""

    def black_hat(self, ksize: int, threshold: int = 0, mask: Image = ...) -> Self:
        """What close() adds."""

    def gamma_corr(self, gamma: float = 1.0, contrast: float = 1.0, brightness: float = 0.0) -> Self:
        """Bend the levels."""

    def negate(self) -> Self:
        """Turn every level round."""

    def replace(
        self,
        other: _Operand = ...,
        hmirror: bool = False,
        vflip: bool = False,
        transpose: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Replace the pixels, by default by the image itself, mirrored or turned."""

    def assign(
        self,
        other: _Operand = ...,
        hmirror: bool = False,
        vflip: bool = False,
        transpose: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Replace the pixels, by default by the image itself, mirrored or turned."""

    def set(
        self,
        other: _Operand = ...,
        hmirror: bool = False,
        vflip: bool = False,
        transpose: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Replace the pixels, by default by the image itself, mirrored or turned."""

    def add(self, other: _Operand, mask: Image = ...) -> Self:
        """Add, up to the largest level."""

    def sub(self, other: _Operand, reverse: bool = False, mask: Image = ...) -> Self:
        """Subtract, down to 0."""

    def mul(self, other: _Operand, invert: bool = False, mask: Image = ...) -> Self:
        """Multiply as fractions."""

    def div(self, other: _Operand, invert: bool = False, mod: bool = False, mask: Image = ...) -> Self:
        """Divide as fractions."""

    def min(self, other: _Operand, mask: Image = ...) -> Self:
        """The smaller level."""

    def max(self, other: _Operand, mask: Image = ...) -> Self:
        """The larger level."""

    def difference(self, other: _Operand, mask: Image = ...) -> Self:
        """The distance of levels."""

    def blend(self, other: _Operand, alpha: int = 128, mask: Image = ...) -> Self:
        """Mix; alpha=256 keeps the image."""

    def histeq(self, adaptive: bool = False, clip_limit: float = -1, mask: Image = ...) -> Self:
        """Spread the levels evenly."""

    def mean(
        self,
        ksize: int,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Mean filter."""

    def median(
        self,
        ksize: int,
        percentile: float = 0.5,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Median filter."""

    def mode(
        self,
        ksize: int,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Most frequent level."""

    def midpoint(
        self,
        ksize: int,
        bias: float = 0.5,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Mix of the extremes."""

    def morph(
        self,
        ksize: int,
        kernel: Sequence[int],
        mul: float = ...,
        add: float = 0.0,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Convolve with whole numbers."""

    def gaussian(
        self,
        ksize: int,
        unsharp: bool = False,
        mul: float = ...,
        add: float = 0.0,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Blur."""

    def blur(
        self,
        ksize: int,
        unsharp: bool = False,
        mul: float = ...,
        add: float = 0.0,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Blur."""

    def gaussian_blur(
        self,
        ksize: int,
        unsharp: bool = False,
        mul: float = ...,
        add: float = 0.0,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Blur."""

    def laplacian(
        self,
        ksize: int,
        sharpen: bool = False,
        mul: float = ...,
        add: float = 0.0,
        threshold: bool = False,
        offset: int = 0,
        invert: bool = False,
        mask: Image = ...,
    ) -> Self:
        """Find edges."""

    def lens_corr(self, strength: float = 1.8, zoom: float = 1.0) -> Self:
        """Undo a fish-eye."""

    def rotation_corr(
        self,
        x_rotation: float = 0.0,
        y_rotation: float = 0.0,
        z_rotation: float = 0.0,
        x_translation: float = 0.0,
        y_translation: float = 0.0,
        zoom: float = 1.0,
        fov: float = 60.0,
        corners: Sequence[Sequence[float]] = ...,
    ) -> Self:
        """Turn the picture in space; angles in degrees."""

    def get_histogram(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Histogram:
        """Shares of the levels."""

    def get_hist(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Histogram:
        """Shares of the levels."""

    def histogram(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Histogram:
        """Shares of the levels."""

    def get_statistics(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Statistics:
        """Mean, median, mode, ... of the levels."""

    def get_stats(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Statistics:
        """Mean, median, mode, ... of the levels."""

    def statistics(
        self,
        thresholds: _Thresholds = ...,
        invert: bool = False,
        roi: _Roi = ...,
        *,
        bins: int = ...,
        l_bins: int = ...,
        a_bins: int = ...,
        b_bins: int = ...,
    ) -> _Statistics:
        """Mean, median, mode, ... of the levels."""

    def find_blobs(
        self,
        thresholds: _Thresholds,
        invert: bool = False,
        roi: _Roi = ...,
        x_stride: int = 2,
        y_stride: int = 1,
        area_threshold: int = 10,
        pixels_threshold: int = 10,
        merge: bool = False,
        margin: int = 0,
        threshold_cb: Callable[[_Blob], Any] = ...,
        merge_cb: Callable[[_Blob, _Blob], Any] = ...,
    ) -> list[_Blob]:
        """Find regions of a colour."""

    @overload
    def dump_roi(self, x: int, y: int, w: int, h: int) -> None:
        """Print the bytes of a region."""
    @overload
    def dump_roi(self, roi: Sequence[int], /) -> None:
        """Print the bytes of a region. The coordinates in one group."""

    def conv3(self, kern: Sequence[float]) -> None:
        """Convolve pixels and planes with nine numbers, on the KPU."""

    def resize(self, w: int, h: int, /) -> Self:
        """A scaled copy without planes."""

    def cut(self, x: int, y: int, w: int, h: int, /) -> Self:
        """A copy of a part, without planes."""

    def ai_to_pix(self) -> None:
        """Fill the packed pixels from the planes."""

    def pix_to_ai(self) -> None:
        """Fill the planes, which the KPU reads, from the packed pixels."""

    def strech_char(self, de_dark: int, /) -> None:
        """Stretch the levels of a grayscale image above its mean."""

    def stretch(self, min: int, max: int, /) -> None:
        """Stretch the levels of a grayscale image."""

    def bilateral(self, *args: Any, **keywords: Any) -> Any:
        """An edge-preserving blur; not simulated on the virtual board."""

    def cartoon(self, *args: Any, **keywords: Any) -> Any:
        """A flattening of regions; not simulated on the virtual board."""

    def chrominvar(self, *args: Any, **keywords: Any) -> Any:
        """An illumination-invariant colour transform; not simulated on the virtual board."""

    def find_apriltags(self, *args: Any, **keywords: Any) -> Any:
        """A reader of AprilTags; not simulated on the virtual board."""

    def find_barcodes(self, *args: Any, **keywords: Any) -> Any:
        """A reader of bar codes; not simulated on the virtual board."""

    def find_circles(self, *args: Any, **keywords: Any) -> Any:
        """A Hough transform; not simulated on the virtual board."""

    def find_datamatrices(self, *args: Any, **keywords: Any) -> Any:
        """A reader of data matrices; not simulated on the virtual board."""

    def find_displacement(self, *args: Any, **keywords: Any) -> Any:
        """A phase correlation; not simulated on the virtual board."""

    def find_domain(self, *args: Any, **keywords: Any) -> Any:
        """A search for the largest region; not simulated on the virtual board."""

    def find_edges(self, *args: Any, **keywords: Any) -> Any:
        """An edge detector; not simulated on the virtual board."""

    def find_eye(self, *args: Any, **keywords: Any) -> Any:
        """A search for pupils; not simulated on the virtual board."""

    def find_features(self, *args: Any, **keywords: Any) -> Any:
        """A Haar cascade; not simulated on the virtual board."""

    def find_hog(self, *args: Any, **keywords: Any) -> Any:
        """A histogram of gradients; not simulated on the virtual board."""

    def find_keypoints(self, *args: Any, **keywords: Any) -> Any:
        """A search for ORB keypoints; not simulated on the virtual board."""

    def find_lbp(self, *args: Any, **keywords: Any) -> Any:
        """A local binary pattern; not simulated on the virtual board."""

    def find_line_segments(self, *args: Any, **keywords: Any) -> Any:
        """A line segment detector; not simulated on the virtual board."""

    def find_lines(self, *args: Any, **keywords: Any) -> Any:
        """A Hough transform; not simulated on the virtual board."""

    def find_qrcodes(self, *args: Any, **keywords: Any) -> Any:
        """A reader of QR codes; not simulated on the virtual board."""

    def find_rects(self, *args: Any, **keywords: Any) -> Any:
        """A search for quadrilaterals; not simulated on the virtual board."""

    def find_template(self, *args: Any, **keywords: Any) -> Any:
        """A template search; not simulated on the virtual board."""

    def get_regression(self, *args: Any, **keywords: Any) -> Any:
        """A line fit; not simulated on the virtual board."""

    def get_similarity(self, *args: Any, **keywords: Any) -> Any:
        """A structural similarity; not simulated on the virtual board."""

    def illuminvar(self, *args: Any, **keywords: Any) -> Any:
        """An illumination-invariant colour transform; not simulated on the virtual board."""

    def linpolar(self, *args: Any, **keywords: Any) -> Any:
        """A polar transform; not simulated on the virtual board."""

    def logpolar(self, *args: Any, **keywords: Any) -> Any:
        """A log-polar transform; not simulated on the virtual board."""

    def remove_shadows(self, *args: Any, **keywords: Any) -> Any:
        """A shadow removal; not simulated on the virtual board."""

    def selective_search(self, *args: Any, **keywords: Any) -> Any:
        """A search for regions; not simulated on the virtual board."""

_Operand = Image | str | _Color

ASCII: int
UTF8: int
SEARCH_EX: int
SEARCH_DS: int
EDGE_CANNY: int
EDGE_SIMPLE: int
CORNER_FAST: int
CORNER_AGAST: int
TAG16H5: int
TAG25H7: int
TAG25H9: int
TAG36H10: int
TAG36H11: int
ARTOOLKIT: int
EAN2: int
EAN5: int
EAN8: int
UPCE: int
ISBN10: int
UPCA: int
EAN13: int
ISBN13: int
I25: int
DATABAR: int
DATABAR_EXP: int
CODABAR: int
CODE39: int
PDF417: int
CODE93: int
CODE128: int

def font_load(index: int, width: int, height: int, source: int | str) -> None:
    """Use a font of a .Dzk file or in flash."""

def font_free() -> None:
    """Go back to the built-in font."""

def rgb_to_lab(rgb: Sequence[int], /) -> tuple[int, int, int]:
    """Convert a colour."""

def lab_to_rgb(lab: Sequence[int], /) -> tuple[int, int, int]:
    """Convert a colour."""

def rgb_to_grayscale(rgb: Sequence[int], /) -> int:
    """Convert a colour."""

def grayscale_to_rgb(gray: int, /) -> tuple[int, int, int]:
    """Convert a level."""

def get_affine_transform(src: list[Sequence[int]], dst: list[Sequence[int]], /) -> tuple[float, ...]:
    """Nine numbers that lead from dst to src."""

def warp_affine_ai(src: Image, dst: Image, transform: Sequence[float], /) -> None:
    """Fill the planes of dst; call dst.ai_to_pix() to see them."""

def HaarCascade(*args: Any, **keywords: Any) -> Any:
    """A Haar cascade; not simulated on the virtual board."""

def ImageReader(*args: Any, **keywords: Any) -> Any:
    """A reader of image streams, which crashes in this firmware; not simulated on the virtual board."""

def ImageWriter(*args: Any, **keywords: Any) -> Any:
    """A writer of image streams, which crashes in this firmware; not simulated on the virtual board."""

def load_descriptor(*args: Any, **keywords: Any) -> Any:
    """A reader of keypoint files; not simulated on the virtual board."""

def match_descriptor(*args: Any, **keywords: Any) -> Any:
    """A comparison of keypoints; not simulated on the virtual board."""

def save_descriptor(*args: Any, **keywords: Any) -> Any:
    """A writer of keypoint files; not simulated on the virtual board."""
