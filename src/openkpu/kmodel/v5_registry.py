"""All tensor functions of V5's stackvm that the simulator has, and the names of those that it has not."""

from __future__ import annotations

from typing import Final

from openkpu.kmodel.program import Step
from openkpu.kmodel.v5_call import TensorFunction
from openkpu.kmodel.v5_functions import ELEMENTS
from openkpu.kmodel.v5_functions_index import BY_INDEX
from openkpu.kmodel.v5_functions_more import MORE
from openkpu.kmodel.v5_functions_window import WINDOWS

NOT_RUN: Final = {
    "COMPRESS": "its result has a size that only a run tells",
    "GRU": "it is a recurrent network",
    "RANDOM_NORMAL": "its results are random",
    "RANDOM_UNIFORM": "its results are random",
    "ROI_ALIGN": "no model for the K210 is known that uses it",
    "TFLITE_DETECTION_POSTPROCESS": "no model for the K210 is known that uses it",
}
"""Functions that the simulator does not have, and why."""

FUNCTIONS: Final = {f.name: f for f in (*ELEMENTS, *WINDOWS, *MORE, *BY_INDEX)}
BY_STEP: Final[dict[type[Step], TensorFunction]] = {step: f for f in FUNCTIONS.values() for step in f.steps}
