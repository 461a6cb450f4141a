"""What the lowering asks: the same model at the default clocks on the V3 runtime."""

import pytest

from openkpu.estimate import price
from openkpu.estimate.cpu import V3
from openkpu.estimate.kpu import Work, layer_time


def test_a_layer_costs_what_the_model_says():
    us = price.kpu_layer_us(64, 60, 80, 64, kernel=1, depthwise=False)
    assert us == layer_time(Work(64, 60, 80, 64, 1), kpu_mhz=400, cpu_mhz=400).time.us
    assert us == pytest.approx(1328, rel=0.01)  # published


def test_pooling_on_the_cpu_costs_more_than_on_the_kpu():
    c, h, w = 32, 56, 56
    on_kpu = price.kpu_layer_us(c, h, w, c, kernel=1, depthwise=False)
    assert price.cpu_pool_us(c * h * w, c * h * w // 4, 4, width=w // 2) > 5 * on_kpu


def test_rows_of_eight_bytes_go_up_faster():
    assert price.upload_ns(24) == V3.upload_words.ns < price.upload_ns(25) < price.upload_ns(None)
    assert price.upload_ns(None) == price.upload_ns(5) == V3.upload_bytes.ns  # short rows go byte by byte


def test_large_products_belong_on_the_kpu_and_tiny_ones_on_the_cpu():
    assert price.cpu_fully_connected_us(768, 1000) > 10 * price.kpu_fully_connected_us(768, 1000)
    assert price.cpu_fully_connected_us(4, 3) < price.kpu_fully_connected_us(4, 3)
