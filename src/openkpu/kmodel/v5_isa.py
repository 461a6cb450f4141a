"""The stackvm instruction set of kmodel V5, and how its tensor functions were numbered over time.

An instruction is one byte and its immediates; ``TENSOR`` is followed by the number of a function (u16) and that
function's fields. The numbers are places in a list that grew in alphabetical order until nncase 1.6, so that nearly
every version before it has other numbers; a file does not say which version made it. Everything here was read from
the history of nncase's ``runtime/stackvm/opcode.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

TENSOR: Final = 0x5E


def _words(text: str) -> list[str]:
    return text.split()


_SCALARS: Final = _words(
    "NOP LDNULL LDC_I4:i LDC_I4_0 LDC_I4_1 LDC_R4:f LDIND_I1 LDIND_I2 LDIND_I4 LDIND_I LDIND_U1 LDIND_U2 LDIND_U4 "
    "LDIND_U LDIND_BR2 LDIND_R4 STIND_I1 STIND_I2 STIND_I4 STIND_I STIND_BR2 STIND_R4 LEA_GP:Bi LEA_BUFFER:BBI "
    "LDELEM_I1 LDELEM_I2 LDELEM_I4 LDELEM_I LDELEM_U1 LDELEM_U2 LDELEM_U4 LDELEM_U LDELEM_BR2 LDELEM_R4 STELEM_I1 "
    "STELEM_I2 STELEM_I4 STELEM_I STELEM_BR2 STELEM_R4 LDARG:I LDARG_0 LDARG_1 LDARG_2 LDARG_3 LDARG_4 LDARG_5 DUP POP "
    "STSHAPE:BB STPADDINGS:BB NEG ADD SUB MUL DIV DIV_U REM REM_U AND OR XOR NOT SHL SHR SHR_U CLT CLT_U CLE CLE_U CEQ "
    "CGE CGE_U CGT CGT_U CNE CONV_I1 CONV_I2 CONV_I4 CONV_I CONV_U1 CONV_U2 CONV_U4 CONV_U CONV_BR2 CONV_R4 BR:i "
    "BR_TRUE:i BR_FALSE:i RET CALL:Bi ECALL:B THROW BREAK"
)
"""Name and immediates (struct codes) of instructions 0x00..0x5D, the same in all versions."""
SCALARS: Final = tuple(
    (name, struct.Struct("<" + codes)) for name, _, codes in (entry.partition(":") for entry in _SCALARS)
)
OPCODES: Final = {name: code for code, (name, _) in enumerate(SCALARS)}

# -- fields of the tensor functions --------------------------------------------------------------------------------
# Kinds: struct codes B, H, h, I, i, q, f; "?" is a byte 0 or 1, "t" an element type, "r" a shape register, "p" a
# paddings register, "o" the number of an operation.
_FIELDS: Final[dict[str, str]] = {
    "BATCH_TO_SPACE": "t:type r:in_shape r:in_strides r:out_strides r:block p:crops",
    "BINARY": "t:type r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides o:op f:low f:high",
    "BROADCAST": "t:type r:in_shape r:in_strides r:out_shape r:out_strides",
    "CALL": "I:function H:module B:inputs B:outputs",
    "COMPARE": "t:type r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides o:op",
    "COMPRESS": "r:in_shape r:condition_shape f:axis",
    "CONV2D": "t:type r:in_shape r:in_strides r:weights_shape r:weights_strides r:bias_strides r:out_strides H:groups "
    "H:stride_h H:stride_w H:dilation_h H:dilation_w f:low f:high",
    "CONVERT": "t:in_type t:out_type r:in_shape r:in_strides r:out_strides",
    "COPY": "t:type r:in_shape r:in_strides r:out_strides",
    "CUMSUM": "t:type r:in_shape i:axis ?:exclusive ?:reverse",
    "DEQUANTIZE": "t:in_type t:out_type r:in_shape r:in_strides r:out_strides",
    "EQUAL": "t:type r:a_shape r:a_strides r:b_shape r:b_strides r:out_strides",
    "GATHER": "t:type r:in_shape r:out_shape r:in_strides r:out_strides r:indices_shape B:axis",
    "GATHER_ELEMENTS": "r:in_shape r:indices_shape i:axis",
    "GATHER_ND": "t:type r:in_shape r:out_shape r:in_strides r:out_strides r:indices_shape B:batch_dims",
    "GRU": "r:in_shape r:w_shape B:direction ?:linear_before_reset",
    "HARDMAX": "t:type r:in_shape r:in_strides i:axis",
    "LAYER_NORMALIZATION": "t:type r:in_shape i:axis f:epsilon",
    "LUT1D": "t:type r:in_shape r:in_strides r:out_strides H:length",
    "MATMUL": "r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides f:low f:high",
    "ONEHOT": "t:type r:indices_shape r:out_shape r:out_strides B:axis o:mode",
    "PAD": "t:type r:in_shape r:in_strides r:out_strides p:pads o:mode",
    "QUANTIZE": "t:in_type t:out_type r:in_shape r:in_strides r:out_strides",
    "RANDOM_NORMAL": "t:type r:out_shape f:mean f:std f:seed",
    "RANDOM_UNIFORM": "t:type r:out_shape f:low f:high f:seed",
    "REDUCE": "t:type r:in_shape r:in_strides r:out_strides o:op r:axes ?:keep_dims",
    "REDUCE_ARG": "t:in_type r:in_shape r:in_strides t:out_type r:out_strides o:op r:axes ?:keep_dims ?:last",
    "REDUCE_PROD": "t:type r:in_shape r:in_strides r:out_strides r:axes ?:keep_dims",
    "REDUCE_WINDOW2D": "t:type o:op r:in_shape r:in_strides r:out_strides H:kernel_h H:kernel_w H:stride_h H:stride_w "
    "H:dilation_h H:dilation_w f:low f:high",
    "RESIZE_IMAGE": "t:type r:in_shape r:in_strides r:out_strides ?:align_corners ?:half_pixel_centers o:mode",
    "ROI_ALIGN": "t:type r:in_shape r:out_shape o:mode f:spatial_scale q:sampling_ratio",
    "SIGMOID": "t:type r:in_shape r:in_strides r:out_strides",
    "SLICE": "t:type r:in_shape r:in_strides r:out_strides r:begin r:end r:stride",
    "SOFTMAX": "t:type r:in_shape r:in_strides r:out_strides i:axis f:beta",
    "SPACE_TO_BATCH": "t:type r:in_shape r:in_strides r:out_strides r:block p:pads",
    "TERNARY": "t:type r:a_shape r:a_strides r:b_shape r:b_strides r:c_shape r:c_strides r:out_strides",
    "TFLITE_DETECTION_POSTPROCESS": "r:box_shape r:score_shape r:anchor_shape i:max_detections i:max_classes "
    "i:per_class ?:regular_nms f:score_threshold f:iou_threshold i:classes f:y_scale f:x_scale f:h_scale f:w_scale",
    "TOPK": "t:type r:in_shape r:in_strides r:values_shape r:values_strides r:indices_shape r:indices_strides q:k "
    "i:axis ?:largest ?:sorted",
    "TRANSPOSE": "t:type r:in_shape r:in_strides r:out_strides r:perm",
    "TRILU": "t:type r:in_shape ?:upper q:k",
    "UNARY": "t:type r:in_shape r:in_strides r:out_strides o:op",
}
"""As nncase 1.9 has them. CLAMP, CONV2D_TRANSPOSE, LOGISTIC and TAKE have numbers but no code anywhere."""

# -- versions ------------------------------------------------------------------------------------------------------
_FIRST: Final = (
    "BATCH_TO_SPACE BINARY BROADCAST CALL CLAMP CONV2D CONV2D_TRANSPOSE CONVERT COPY DEQUANTIZE GATHER GATHER_ND "
    "LOGISTIC LUT1D MATMUL ONEHOT PAD QUANTIZE REDUCE REDUCE_WINDOW2D RESIZE_IMAGE SLICE SOFTMAX SPACE_TO_BATCH TAKE "
    "TRANSPOSE UNARY"
)
_BINARY_3: Final = "t:type r:a_shape r:a_strides r:b_shape r:b_strides r:out_strides o:op f:low f:high"
_NO_FIELDS: Final = "none"

_HISTORY: Final[tuple[tuple[str, str, dict[str, str]], ...]] = (
    # Name, functions that came (in alphabetical order with the others), fields that changed.
    (
        "2021-07",
        _FIRST,
        {
            "CALL": "I:module B:inputs B:outputs",
            "BINARY": _BINARY_3,
            "MATMUL": _NO_FIELDS,
            "SOFTMAX": _NO_FIELDS,
            "SPACE_TO_BATCH": _NO_FIELDS,
        },
    ),
    ("2021-08-18", "", {"CALL": _FIELDS["CALL"]}),
    ("2021-10-18", "REDUCE_ARG", {}),
    ("2021-10-20", "CUMSUM", {}),
    ("2021-10-21", "HARDMAX", {"HARDMAX": "t:type r:in_shape r:in_strides r:out_strides i:axis"}),
    ("1.0", "", {"HARDMAX": _FIELDS["HARDMAX"]}),
    ("2021-11-03", "RANDOM_NORMAL", {}),
    ("2021-11-04", "RANDOM_UNIFORM", {}),
    ("2021-11-05", "", {"REDUCE_WINDOW2D": _FIELDS["REDUCE_WINDOW2D"] + " ?:count_pads"}),
    (
        "2021-11-17",
        "REDUCE_PROD",
        {
            "REDUCE_WINDOW2D": _FIELDS["REDUCE_WINDOW2D"],
            "REDUCE_PROD": "r:in_shape r:in_strides r:out_strides r:axes ?:keep_dims",
        },
    ),
    ("1.1", "TERNARY", {}),
    ("2021-12-17", "TOPK TRILU", {}),
    ("2021-12-29", "SIGMOID", {"SIGMOID": "t:type r:in_shape r:in_strides"}),
    ("1.2", "ROI_ALIGN", {}),
    ("2022-01-05", "EQUAL", {}),
    ("2022-01-19", "", {"MATMUL": "r:a_shape r:b_shape f:low f:high"}),
    ("1.3", "", {"SIGMOID": _FIELDS["SIGMOID"]}),
    ("2022-02-12", "", {"BINARY": _FIELDS["BINARY"]}),
    ("1.4", "", {"MATMUL": _FIELDS["MATMUL"]}),
    ("2022-03-28", "", {"SOFTMAX": _FIELDS["SOFTMAX"]}),
)
_LATEST: Final = _words(
    "BATCH_TO_SPACE BINARY BROADCAST CALL COMPARE CLAMP CONV2D CONV2D_TRANSPOSE CONVERT COPY CUMSUM DEQUANTIZE GATHER "
    "GATHER_ND HARDMAX LOGISTIC LUT1D MATMUL ONEHOT PAD QUANTIZE RANDOM_NORMAL RANDOM_UNIFORM REDUCE REDUCE_ARG "
    "REDUCE_PROD REDUCE_WINDOW2D RESIZE_IMAGE ROI_ALIGN SIGMOID SLICE SOFTMAX SPACE_TO_BATCH TAKE TERNARY TOPK "
    "TRANSPOSE TRILU UNARY GRU TFLITE_DETECTION_POSTPROCESS LAYER_NORMALIZATION COMPRESS GATHER_ELEMENTS"
)

LATEST: Final = "1.6-1.9"
"""Files of nncase 1.6 to 1.9: functions were only added, at the end. The version that we write."""


@dataclass(frozen=True, slots=True)
class FunctionFields:
    """The fields of a tensor function in one version: (kind, name) pairs and their binary form."""

    name: str
    number: int
    fields: tuple[tuple[str, str], ...]
    record: struct.Struct

    @classmethod
    def make(cls, name: str, number: int, text: str) -> FunctionFields:
        """Build it from a declaration."""
        pairs = tuple((kind, field) for kind, _, field in (f.partition(":") for f in text.split()))
        codes = "".join(kind if kind in "BHhIiqf" else "B" for kind, _ in pairs)
        return cls(name, number, pairs, struct.Struct("<" + codes))

    def pack(self, values: dict[str, Any]) -> bytes:
        """Write the whole instruction; ``struct.error`` when a value does not fit."""
        return struct.pack("<BH", TENSOR, self.number) + self.record.pack(*(values[name] for _, name in self.fields))


@dataclass(frozen=True, slots=True)
class Variant:
    """The tensor functions of one span of versions."""

    name: str
    by_number: dict[int, FunctionFields]
    by_name: dict[str, FunctionFields]
    interior: bool
    """A padding is (before, after, interior) on the stack; before November 2021 it was (before, after)."""


def _variant(name: str, order: list[str], changed: dict[str, str], *, interior: bool = True) -> Variant:
    found = [
        FunctionFields.make(f, i, text)
        for i, f in enumerate(order)
        if (text := changed.get(f, _FIELDS.get(f, _NO_FIELDS))) != _NO_FIELDS
    ]
    return Variant(name, {f.number: f for f in found}, {f.name: f for f in found}, interior)


@cache
def variants() -> tuple[Variant, ...]:
    """All versions, newest first."""
    found: list[Variant] = []
    functions: list[str] = []
    changed: dict[str, str] = {}
    interior = False
    for name, new, fields in _HISTORY:
        functions = sorted({*functions, *new.split()}, key=_ORDER.index)
        changed = {**changed, **fields}
        interior = interior or name == "2021-11-03"
        found.append(_variant(name, functions, changed, interior=interior))
    found.append(_variant(LATEST, _LATEST, {}))
    return tuple(reversed(found))


_ORDER: Final = sorted({*_FIRST.split(), *" ".join(new for _, new, _ in _HISTORY).split()})
"""The alphabetical order that decided the numbers."""


def variant(name: str) -> Variant:
    """Return a version by name."""
    return next(v for v in variants() if v.name == name)
