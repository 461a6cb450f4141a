"""The namespace: what there is, what is missing, what the minimum firmware lacks, and the editor stub."""

import ast
import gc
import weakref
from pathlib import Path

import pytest
from image_host import Board

import openkpu.maixpy
from openkpu.maixpy.image import Image
from openkpu.maixpy.image.missing import FUNCTIONS, METHODS

STUB = Path(openkpu.maixpy.__file__).parent / "stubs" / "image.pyi"
OWN = {"from_rgb888", "from_gray", "fmap_view", "load_rgb888", "to_rgb888", "ai_planes", "ai_is_stale"}
"""What only the virtual board uses."""
FIRMWARE = """
width height format size get_pixel set_pixel mean_pool mean_pooled midpoint_pool midpoint_pooled to_bitmap to_grayscale
to_rgb565 to_rainbow compress compress_for_ide compressed compressed_for_ide copy crop save to_bytes clear draw_line
draw_rectangle draw_circle draw_ellipse draw_font draw_string draw_cross draw_arrow draw_image flood_fill draw_keypoints
binary invert and b_and nand b_nand or b_or nor b_nor xor b_xor xnor b_xnor erode dilate open close top_hat black_hat
gamma_corr negate assign replace set add sub mul div min max difference blend histeq mean median mode midpoint morph
blur gaussian gaussian_blur laplacian bilateral cartoon remove_shadows chrominvar illuminvar linpolar logpolar lens_corr
rotation_corr get_similarity get_hist get_histogram histogram get_stats get_statistics statistics get_regression
find_blobs find_lines find_line_segments find_circles find_rects find_qrcodes find_apriltags find_datamatrices
find_barcodes find_displacement find_template find_features find_eye find_lbp find_keypoints find_domain find_edges
find_hog selective_search dump_roi conv3 resize ai_to_pix pix_to_ai strech_char stretch cut
"""
MINIMUM = """
width height format size get_pixel set_pixel mean_pool mean_pooled midpoint_pool midpoint_pooled to_bitmap to_grayscale
to_rgb565 to_rainbow compress compress_for_ide compressed compressed_for_ide copy crop save to_bytes clear draw_line
draw_rectangle draw_circle draw_ellipse draw_font draw_string draw_cross draw_arrow draw_image lens_corr dump_roi conv3
resize ai_to_pix pix_to_ai strech_char stretch cut
"""


def names(value: object) -> set[str]:
    return {n for n in dir(value) if not n.startswith("_") and hasattr(value, n)} - OWN


def test_the_methods_are_those_of_the_firmware() -> None:
    full, minimum = (Board(full=f).module().Image(size=(2, 2)) for f in (True, False))
    assert names(full) == set(FIRMWARE.split())
    assert names(minimum) == set(MINIMUM.split())
    assert isinstance(minimum, Image)
    assert type(minimum).__name__ == "Image"


def test_the_minimum_firmware() -> None:
    image = Board(full=False).module().Image(size=(9, 9))
    with pytest.raises(AttributeError, match=r"^'Image' object has no attribute 'find_blobs'$"):
        image.find_blobs([(1, 2)])
    assert type(image.copy()) is type(image)
    assert image.draw_rectangle(1, 1, 3, 3)[10] == (255, 255, 255)
    module = Board(full=False).module()
    assert not hasattr(module, "HaarCascade")
    assert not hasattr(module, "EDGE_CANNY")
    assert (module.ASCII, module.UTF8) == (0, 2)


def test_grayscale_depends_on_the_firmware() -> None:
    levels = [
        Board(full=f).module().Image(size=(1, 1)).set_pixel(0, 0, 0xE1D3).to_grayscale()[0] for f in (True, False)
    ]
    assert levels[0] != levels[1]


def test_constants() -> None:
    module = Board().module()
    assert module.__name__ == "image"
    assert (module.EDGE_CANNY, module.EDGE_SIMPLE, module.SEARCH_DS, module.CORNER_AGAST) == (0, 1, 1, 1)
    assert (module.TAG16H5, module.TAG36H11, module.ARTOOLKIT, module.EAN2, module.CODE128) == (1, 16, 32, 0, 15)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_missing_methods_say_so(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^openkpu board: image\.{name} is not simulated: it is "):
        getattr(Board().module().Image(size=(1, 1)), name)(5, roi=(1, 2))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_missing_functions_say_so(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^openkpu board: image\.{name} is not simulated"):
        getattr(Board().module(), name)("a")


def test_boards_do_not_share_fonts_or_explanations() -> None:
    first, second = Board(), Board()
    one, two = first.module(), second.module()
    one.font_load(one.UTF8, 8, 8, 100)
    assert one.Image(size=(9, 12)).draw_string(0, 0, "T").get_pixel(2, 9) == (0, 0, 0)
    assert two.Image(size=(9, 12)).draw_string(0, 0, "T").get_pixel(2, 9) == (255, 255, 255)
    for host, module in ((first, one), (second, two)):
        module.Image(size=(2, 2)).cut(1, 1, 2, 2)
        assert len(host.warned) == 1


def test_a_board_can_go() -> None:
    host = Board()
    gone = weakref.ref(host)
    host.module().Image(size=(3, 3)).draw_string(0, 0, "a")
    del host
    gc.collect()
    assert gone() is None


def test_the_editor_stub_names_what_there_is() -> None:
    tree = ast.parse(STUB.read_text())
    (image,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Image")
    stub = {n.name for n in image.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}
    assert stub == names(Board().module().Image(size=(1, 1))) - {"and", "or"}
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    constants = {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    module = Board().module()
    assert functions | constants | {"Image"} == {n for n in vars(module) if not n.startswith("_")}
    assert all(
        ast.get_docstring(n) for n in image.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")
    )
