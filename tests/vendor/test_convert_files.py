"""Other people's kmodels, written for another version: they give the outputs of their own runtime's golden data."""

import numpy as np
import pytest

import openkpu
from openkpu.convert import convert
from openkpu.errors import UnsupportedError

CONVERTS = [
    ("v3/v3_maixpy_mnist", "v4"), ("v3/v3_maixpy_mnist", "v5"), ("v3/v3_nncase010_iris", "v4"),
    ("v3/v3_nncase010_iris", "v5"), ("v3/v3_nncase010_yolo20", "v4"), ("v3/v3_nncase010_yolo20", "v5"),
    ("v3/v3_sdkdemo_face_detect", "v4"), ("v3/v3_sdkdemo_face_detect", "v5"), ("v3/v3syn_conv8", "v5"),
    ("v3/v3syn_fc", "v4"), ("v4/compiled/t_cnn", "v3"), ("v4/compiled/t_cnn", "v5"),
    ("v4/compiled/o_slice", "v3"), ("v4/compiled/t_fc", "v3"), ("v4/compiled/t_pad_mid", "v3"),
    ("v4/compiled/t_concat_range_ab", "v3"), ("v4/compiled/t_residual__noqbin", "v5"),
    ("v4/compiled/t_softmax", "v5"), ("v4/compiled/t_sigmoid_only", "v3"), ("v4/compiled/t_maxpool2_only", "v3"),
    ("v4/compiled/t_conv3x3__float", "v5"), ("v4/real/yolo20", "v3"), ("v4/real/yolo20", "v5"),
    ("v4/real/mask_detect", "v5"), ("v4/real/iris", "v3"), ("v5/mnist_cnn_28", "v3"), ("v5/mnist_cnn_28", "v4"),
    ("v5/fer_emotion_64", "v3"), ("v5/fer_emotion_64", "v4"), ("v5/tiny_face_160", "v3"), ("v5/tiny_face_160", "v4"),
    ("v5/mtcnn_rnet_24", "v4"), ("v5/ppocr_cls_48x192", "v4"), ("v5/face_landmark68_tiny_112", "v3"),
]  # fmt: skip
REFUSED = [
    ("v3/v3syn_conv16", "v4", "E222", "step 0 (KpuConv)"),
    ("v3/v3syn_cpu_ops", "v5", "E222", "step 17 (QuantizedAdd)"),
    ("v4/compiled/t_mul", "v3", "E222", "step 4 (QuantizedBinary)"),
    ("v4/compiled/t_conv3x3__float", "v3", "E222", "step 0 (Conv2D)"),
    ("v4/compiled/t_resize_bl", "v5", "E223", "comparison on noise"),
    ("v5/ppocr_cls_48x192", "v3", "E222", "step 24 (Binary)"),
    ("v5/mbv1_0.25_224", "v3", "E223", "comparison on noise"),
]


def path(vendor, name):
    found = vendor / f"{name}.kmodel"
    if not found.is_file():
        pytest.skip(f"no file {name}")
    return found


@pytest.mark.parametrize(("name", "target"), CONVERTS, ids=[f"{n}-{t}" for n, t in CONVERTS])
def test_outputs_stay_the_same(vendor, name, target):
    model = openkpu.load(path(vendor, name))
    result = convert(model, target)
    assert result.is_same
    assert result.model.version == int(target[1])
    assert result.values > 0
    golden = vendor / f"{name}.npz"
    if golden.is_file() and "inputs" in (data := np.load(golden)) and "out0" in data:
        x = data["inputs"][0]
        for i, o in enumerate(result.model.outputs):
            want = data[f"out{i}"][0].ravel()
            got = result.model.run(*[x.reshape(p.shape) for p in result.model.inputs])[i].ravel()
            assert got.size == o.elements
            np.testing.assert_allclose(got, want, atol=1e-4 * max(1e-9, float(np.abs(want).max())), rtol=0)


@pytest.mark.parametrize(("name", "target", "code", "where"), REFUSED, ids=[f"{n}-{t}" for n, t, _, _ in REFUSED])
def test_what_has_no_counterpart_is_named(vendor, name, target, code, where):
    with pytest.raises(UnsupportedError) as caught:
        convert(openkpu.load(path(vendor, name)), target)
    assert caught.value.code == code
    assert caught.value.where == where
