"""What load_flash needs of a file, and when it cannot have it."""

import program_builders as b
import pytest

from openkpu.kmodel import v3
from openkpu.kmodel.streaming import BODY_LIMIT, most_layers, streaming


def test_needs_of_a_small_file():
    data = v3.write(b.program(b.fully_connected(0, 64, 4, 8), b.fully_connected(64, 128, 8, 16)))
    needs = streaming(data)
    assert (needs.layers, needs.most_layers, needs.problem) == (2, 507, "")
    assert needs.largest_body >= 24 + 4 * 16 * 9
    one, two = needs.ram_bytes(dual=False), needs.ram_bytes(dual=True)
    assert two - one == needs.largest_body + 256
    assert one == 4096 + 256 + needs.scratch_bytes + needs.largest_body + 256


@pytest.mark.parametrize(("outputs", "most"), [(1, 507), (2, 506), (10, 498)])
def test_outputs_take_places_of_layers(outputs, most):
    assert most_layers(outputs) == most


def test_a_large_layer_and_a_long_table_are_problems():
    large = streaming(v3.write(b.program(b.fully_connected(0, 4096, 1024, 640))))
    assert large.largest_body > BODY_LIMIT
    assert "a layer of" in large.problem
    many = streaming(v3.write(b.program(b.fully_connected(0, 64, 4, 4), *[b.fully_connected(64, 64, 4, 4)] * 507)))
    assert many.layers == 508
    assert "first 507 layers" in many.problem
