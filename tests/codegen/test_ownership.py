"""No step reads bytes that another buffer holds: the plan, byte for byte, against what was meant to be read.

The checking mode sees a program only, so it cannot tell a map from a later one of the same size in the same place. The
actions, from which a program is made, name the buffers that they read.
"""

import numpy as np
import pytest
from target_models import MODELS, gated_parts, graph_of

from openkpu.codegen import build
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kmodel.program import Memory
from openkpu.runtime.checks import offsets


def wrong_reads(actions, inputs, outputs, program):
    """Return the reads that meet bytes of a buffer that is not among those the action reads."""
    sizes = {Memory.AI: AI_RAM_BYTES, Memory.MAIN: program.main_bytes}
    sizes |= {Memory.INPUT: program.input_bytes, Memory.OUTPUT: program.output_bytes}
    holder = {memory: np.zeros(size + 64, np.int64) for memory, size in sizes.items()}
    wrong = []

    def write(operand, buffers):
        where = np.arange(holder[operand.memory].size)[offsets(operand)].reshape(-1)
        for b in buffers:
            if b.memory is operand.memory:
                holder[operand.memory][where[(where >= b.start) & (where < b.start + b.size)]] = id(b)

    def read(operand, buffers, step):
        if operand.memory is not Memory.CONST:
            found = set(np.unique(holder[operand.memory][offsets(operand)]).tolist())
            if not found <= {id(b) for b in buffers}:
                wrong.append((step, operand))

    for operand, b in zip(program.inputs, inputs, strict=True):
        write(operand, [b])
    for i, (action, step) in enumerate(zip(actions, program.steps, strict=True)):
        for operand in step.reads:
            read(operand, action.reads, i)
        for operand in step.writes:
            write(operand, action.writes)
    for operand in program.outputs:
        read(operand, outputs, len(actions))
    return wrong


@pytest.fixture
def planned(monkeypatch):
    """What the last compilation planned: actions, inputs, outputs, program."""
    plans = []
    place, assembled = build.plan.place, build.Assembled

    def recorded(actions, inputs, outputs):
        plans[:] = [actions, inputs, outputs]
        return place(actions, inputs, outputs)

    def finished(program, plan, tensors):
        plans[3:] = [program]
        return assembled(program, plan, tensors)

    monkeypatch.setattr(build.plan, "place", recorded)
    monkeypatch.setattr(build, "Assembled", finished)
    return plans


def compiled(make, size, target):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3, size, size), np.uint8) for _ in range(2)]
    model = to_onnx(graph_of((1, 3, size, size), make)).SerializeToString()
    return compile(model, calibration=pictures, target=target, range_method="minmax")


NETWORKS = {
    "parts of a concatenation times a gate": (gated_parts, 28),
    "an upsampled part times a gate": (lambda b: gated_parts(b, upsampled=True), 28),
    "multiplied maps": (MODELS["multiplied maps"], 8),
    "squeeze and excite": (MODELS["squeeze and excite"], 8),
}


@pytest.mark.parametrize("target", ["v3", "v4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_reads_the_buffers_that_it_names(planned, name, target):
    compiled(*NETWORKS[name], target)
    assert wrong_reads(*planned) == []


def test_a_lifetime_that_ends_too_early_is_found(planned, monkeypatch):
    lifetimes = build.plan.lifetimes

    def short(*args):
        return {key: (first, max(first, last - 2)) for key, (first, last) in lifetimes(*args).items()}

    monkeypatch.setattr(build.plan, "lifetimes", short)
    compiled(gated_parts, 28, "v3")
    assert wrong_reads(*planned)
