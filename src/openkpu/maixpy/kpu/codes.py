"""The error codes of the firmware's model runtime and their texts."""

from __future__ import annotations

from typing import Final

PARAM, VERSION, FORMAT, DECRYPT, READ_FILE, NO_MEM = 2001, 2002, 2003, 2004, 2005, 2006
GET_CONV_LAYER, RUN_MODEL, MODELS_FULL, PERMISSION = 2007, 2008, 2009, 2010
OUT_OF_RANGE, SIZE_MISMATCH, OUTPUTS_NOT_SET, NOT_IMPLEMENTED, UNKNOWN = 2011, 2012, 2013, 2014, 2015

_TEXTS: Final = {
    0: "ERR_NONE",
    PARAM: "ERR_PARAM: please check param, load address or kmodel file name",
    VERSION: "ERR_KMODEL_VERSION: only support kmodel V3",
    FORMAT: "ERR_KMODEL_FORMAT: layer_header.body_size <=0",
    DECRYPT: "ERR_DECRYPT: check smodel match with your board",
    READ_FILE: "ERR_READ_FILE: read file failed",
    NO_MEM: "ERR_NO_MEM: memory not enough",
    GET_CONV_LAYER: "ERR_GET_CONV_LAYER: first layer should be conv layer",
    RUN_MODEL: "ERR_RUN_MODEL: maybe model dirty",
    MODELS_FULL: "ERR_MODELS_FULL: we only support load 5 models in the same time",
    PERMISSION: "ERR_PERMITION",
    OUT_OF_RANGE: "SIPEED_KPU_ERR_IDX_OUTRANGE",
    SIZE_MISMATCH: "SIPEED_KPU_ERR_SIZE_NOTMATCH",
    OUTPUTS_NOT_SET: "ERR_OUTPUTS_SET: need kpu.set_outputs() to set shape",
    NOT_IMPLEMENTED: "ERR_NOT_IMPLEMENT",
}


def text(code: int, *, v4: bool) -> str:
    """What the firmware says for a code; builds that load V4 word one of them differently."""
    if code == VERSION and v4:
        return "ERR_KMODEL_VERSION: only support kmodel V3/V4 now"
    return _TEXTS.get(code, "ERR_UNKNOWN")


TYPE_ERROR: Final = "[MAIXPY]kpu: kpu_net type error"
IMAGE_ERROR: Final = "[MAIXPY]kpu: check img format err!\r\n"

LAYERS: Final[dict[int, tuple[str, str]]] = {
    0: ("INVALID", "\0"),
    1: ("ADD", "f"),
    2: ("QUANTIZED_ADD", "B"),
    3: ("GLOBAL_MAX_POOL2D", "\0"),
    4: ("QUANTIZED_GLOBAL_MAX_POOL2D", "\0"),
    5: ("GLOBAL_AVERAGE_POOL2D", "f"),
    6: ("QUANTIZED_GLOBAL_AVERAGE_POOL2D", "\0"),
    7: ("MAX_POOL2D", "\0"),
    8: ("QUANTIZED_MAX_POOL2D", "B"),
    9: ("AVERAGE_POOL2D", "f"),
    10: ("QUANTIZED_AVERAGE_POOL2D", "B"),
    11: ("QUANTIZE", "B"),
    12: ("DEQUANTIZE", "f"),
    13: ("REQUANTIZE", "B"),
    14: ("L2_NORMALIZATION", "f"),
    15: ("SOFTMAX", "f"),
    16: ("CONCAT", "f"),
    17: ("QUANTIZED_CONCAT", "B"),
    18: ("FULLY_CONNECTED", "f"),
    19: ("QUANTIZED_FULLY_CONNECTED", "B"),
    20: ("TENSORFLOW_FLATTEN", "f"),
    21: ("QUANTIZED_TENSORFLOW_FLATTEN", "B"),
    22: ("RESIZE_NEAREST_NEIGHBOR", "f"),
    23: ("QUANTIZED_RESIZE_NEAREST_NEIGHBOR", "B"),
    24: ("CHANNELWISE_DEQUANTIZE", "f"),
    25: ("LOGISTIC", "f"),
    10240: ("K210_CONV", "B"),
    10241: ("K210_ADD_PADDING", "B"),
    10242: ("K210_REMOVE_PADDING", "B"),
    10243: ("K210_UPLOAD", "B"),
}
"""V3 layer type -> (name, type code of its output as MaixPy reads it)."""

CONV: Final = 10240
SET_LAYERS: Final = frozenset({1, 2, 5, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 20, 10240, 10242})
"""The layer types at which ``set_layers`` can end a model."""


def printed_name(number: int) -> str | None:
    """The name that the firmware prints; its table lost a comma, so the names from 22 on are one off.

    None where it reads past its table.
    """
    names = [f"KL_{LAYERS[i][0]}" for i in range(26)]
    names[21:23] = [names[21] + names[22]]
    if number >= 10240:
        return f"KL_{LAYERS[number][0]}" if number in LAYERS else "KL_INVALID"
    return names[number] if number < len(names) else None
