"""The fields of caffe.proto that this importer reads, by number; layer types of the old format (V1) by their new names.

Source: BVLC/caffe, src/caffe/proto/caffe.proto; Permute and Normalize as in the SSD branch.
"""

from __future__ import annotations

from typing import Final

from openkpu.importers.wire import Field, Schema

_PHASE: Final = {0: "TRAIN", 1: "TEST"}
_ELTWISE: Final = {0: "PROD", 1: "SUM", 2: "MAX"}
_POOL: Final = {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
_REGION: Final = {0: "ACROSS_CHANNELS", 1: "WITHIN_CHANNEL"}
_ROUND: Final = {0: "CEIL", 1: "FLOOR"}
_REDUCTION: Final = {1: "SUM", 2: "ASUM", 3: "SUMSQ", 4: "MEAN"}
V1_TYPES: Final = {
    0: "None", 35: "AbsVal", 1: "Accuracy", 30: "ArgMax", 2: "BNLL", 3: "Concat", 37: "ContrastiveLoss",
    4: "Convolution", 5: "Data", 39: "Deconvolution", 6: "Dropout", 32: "DummyData", 7: "EuclideanLoss", 25: "Eltwise",
    38: "Exp", 8: "Flatten", 9: "HDF5Data", 10: "HDF5Output", 28: "HingeLoss", 11: "Im2col", 12: "ImageData",
    13: "InfogainLoss", 14: "InnerProduct", 15: "LRN", 29: "MemoryData", 16: "MultinomialLogisticLoss", 34: "MVN",
    17: "Pooling", 26: "Power", 18: "ReLU", 19: "Sigmoid", 27: "SigmoidCrossEntropyLoss", 36: "Silence",
    20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 33: "Slice", 23: "TanH", 24: "WindowData", 31: "Threshold",
}  # fmt: skip
V1_NAMES: Final = {name.upper().replace("_", ""): name for name in V1_TYPES.values()} | {
    "SOFTMAXLOSS": "SoftmaxWithLoss"
}
"""The names in old text files (INNER_PRODUCT), without underscores -> the new ones."""


def _fields(text: str) -> dict[int, Field]:
    """Read ``number name kind`` triples."""
    parts = text.split()
    return {int(n): Field(name, kind) for n, name, kind in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def _enum(number: int, name: str, values: dict[int, str]) -> dict[int, Field]:
    return {number: Field(name, "enum", values)}


_LAYER: Final = _fields("""
    1 name string 2 type string 3 bottom string 4 top string 7 blobs Blob 8 include Rule 9 exclude Rule
    100 transform_param Transform 103 argmax_param ArgMax 104 concat_param Concat 106 convolution_param Convolution
    110 eltwise_param Eltwise 111 exp_param Exp 117 inner_product_param InnerProduct 118 lrn_param LRN
    119 memory_data_param MemoryData
    121 pooling_param Pooling 122 power_param Power 123 relu_param ReLU 125 softmax_param Softmax 126 slice_param Slice
    131 prelu_param PReLU 133 reshape_param Reshape 134 log_param Exp 135 flatten_param Flatten
    136 reduction_param Reduction 138 tile_param Tile 139 batch_norm_param BatchNorm 140 elu_param ELU
    141 bias_param Axes 142 scale_param Scale 143 input_param Input 144 crop_param Crop 202 permute_param Permute
    206 norm_param Normalize
""")
_OLD_LAYER: Final = _fields("""
    2 bottom string 3 top string 4 name string 6 blobs Blob 32 include Rule 33 exclude Rule 9 concat_param Concat
    10 convolution_param Convolution 17 inner_product_param InnerProduct 18 lrn_param LRN
    19 pooling_param Pooling 21 power_param Power
    22 memory_data_param MemoryData 23 argmax_param ArgMax 24 eltwise_param Eltwise 30 relu_param ReLU
    31 slice_param Slice 36 transform_param Transform 39 softmax_param Softmax 41 exp_param Exp
""") | _enum(5, "type", V1_TYPES)  # fmt: skip

SCHEMA: Final[Schema] = {
    "Net": _fields(
        "1 name string 3 input string 8 input_shape Shape 4 input_dim int 100 layer Layer 2 layers OldLayer"
    ),
    "Layer": _LAYER,
    "OldLayer": _OLD_LAYER,
    "Shape": _fields("1 dim int"),
    "Blob": _fields(
        "7 shape Shape 5 data floats 8 double_data doubles 1 num int 2 channels int 3 height int 4 width int"
    ),
    "Rule": _enum(1, "phase", _PHASE) | _fields("4 stage string"),
    "Transform": _fields("3 crop_size int 11 crop_h int 12 crop_w int"),
    "MemoryData": _fields("1 batch_size int 2 channels int 3 height int 4 width int"),
    "Input": _fields("1 shape Shape"),
    "ArgMax": _fields("1 out_max_val bool 2 top_k int 3 axis int"),
    "Concat": _fields("2 axis int 1 concat_dim int"),
    "Convolution": _fields("""
        1 num_output int 2 bias_term bool 3 pad int 4 kernel_size int 5 group int 6 stride int 9 pad_h int 10 pad_w int
        11 kernel_h int 12 kernel_w int 13 stride_h int 14 stride_w int 16 axis int 18 dilation int
    """),
    "Eltwise": _fields("2 coeff float") | _enum(1, "operation", _ELTWISE),
    "Exp": _fields("1 base float 2 scale float 3 shift float"),
    "InnerProduct": _fields("1 num_output int 2 bias_term bool 5 axis int 6 transpose bool"),
    "LRN": _fields("1 local_size int 2 alpha float 3 beta float 5 k float") | _enum(4, "norm_region", _REGION),
    "Pooling": _fields("""
        2 kernel_size int 3 stride int 4 pad int 5 kernel_h int 6 kernel_w int 7 stride_h int 8 stride_w int 9 pad_h int
        10 pad_w int 12 global_pooling bool
    """) | _enum(1, "pool", _POOL) | _enum(13, "round_mode", _ROUND),
    "Power": _fields("1 power float 2 scale float 3 shift float"),
    "ReLU": _fields("1 negative_slope float"),
    "Softmax": _fields("2 axis int"),
    "Slice": _fields("3 axis int 2 slice_point int 1 slice_dim int"),
    "PReLU": _fields("2 channel_shared bool"),
    "Reshape": _fields("1 shape Shape 2 axis int 3 num_axes int"),
    "Flatten": _fields("1 axis int 2 end_axis int"),
    "Reduction": _fields("2 axis int 3 coeff float") | _enum(1, "operation", _REDUCTION),
    "Tile": _fields("1 axis int 2 tiles int"),
    "BatchNorm": _fields("1 use_global_stats bool 3 eps float"),
    "ELU": _fields("1 alpha float"),
    "Axes": _fields("1 axis int 2 num_axes int"),
    "Scale": _fields("1 axis int 2 num_axes int 4 bias_term bool"),
    "Crop": _fields("1 axis int 2 offset int"),
    "Permute": _fields("1 order int"),
    "Normalize": _fields("1 across_spatial bool 3 channel_shared bool 4 eps float"),
}  # fmt: skip
"""Message -> its fields."""
