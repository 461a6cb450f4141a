"""The MaixPy script of the test. It is plain MicroPython 3.4 and holds a chunk of 4 KiB at a time.

All in it is a constant of the test or common to all tests; what differs by layer is in the table in flash. Facts of the
firmware that it relies on (MaixPy-v1 v0.5.1 and later): ``image.Image(size=)``, ``set_pixel`` with an integer sets the
pixel's own bits, ``pix_to_ai`` copies gray pixels and widens RGB565 ones, ``ustruct.unpack_from`` reads a feature map
whatever its type code is, ``ubinascii.crc32`` is the zip checksum.
"""

from __future__ import annotations

from typing import Final

from openkpu.kat.data import ABSENT, RECORD, RECORD_BYTES

CHUNK: Final = 4096

_TEXT: Final = """\
# Known-answer test: does this board compute what the simulator computes?
# Made by OpenKPU for {title}. Flash the package, then run this script on the board.
import gc, ustruct, ubinascii
import KPU as kpu
from Maix import utils

MODEL, MODEL_BYTES, MODEL_CRC = {model:#x}, {model_bytes}, {model_crc:#x}
DATA, DATA_BYTES, DATA_CRC = {data:#x}, {data_bytes}, {data_crc:#x}
CHECKS, RECORD, RECORD_BYTES, ABSENT = {checks}, "{record}", {record_bytes}, {absent:#x}
INPUT, KIND, WIDTH, HEIGHT = DATA + {input_offset}, "{kind}", {width}, {height}
SHAPES = {shapes}
NOT_COMPARED = {missing}
CHUNK = {chunk}


def checksum(address, size):
    crc = 0
    while size > 0:
        n = min(CHUNK, size)
        crc = ubinascii.crc32(utils.flash_read(address, n), crc)
        address += n
        size -= n
    return crc & 0xFFFFFFFF


def make_input():
    if KIND == "list":
        raw = utils.flash_read(INPUT, 4 * WIDTH)
        return list(ustruct.unpack("<%df" % WIDTH, raw))
    import image
    img = image.Image(size=(WIDTH, HEIGHT))
    row, form = 2 * WIDTH, "<%dH" % WIDTH
    if KIND == "gray":
        img = img.to_grayscale()
        row, form = WIDTH, "%dB" % WIDTH
    for y in range(HEIGHT):
        pixels = ustruct.unpack(form, utils.flash_read(INPUT + y * row, row))
        for x in range(WIDTH):
            img.set_pixel(x, y, pixels[x])
    img.pix_to_ai()
    return img


def place(i, c, h, w):
    if h * w <= 1:
        return "value %d" % i
    return "channel %d, row %d, column %d" % (i // (h * w), i // w % h, i % w)


def compare_floats(fmap, size, address, tolerance):
    worst, at = 0.0, -1
    done = 0
    while done < size:
        n = min(CHUNK // 8, size - done)
        form = "<%df" % (n // 4)
        want = ustruct.unpack(form, utils.flash_read(address + done, n))
        got = ustruct.unpack_from(form, fmap, done)
        for i in range(n // 4):
            if want[i] == got[i] or (want[i] != want[i] and got[i] != got[i]):
                continue
            d = abs(want[i] - got[i])
            if at < 0 and not d <= tolerance:
                at, first = done // 4 + i, (want[i], got[i])
            if d > worst:
                worst = d
        done += n
    if at < 0:
        return None, "equal, largest difference %g (allowed %g)" % (worst, tolerance)
    return (at, first[0], first[1]), "DIFFERENT, largest difference %g (allowed %g)" % (worst, tolerance)


def compare_bytes(fmap, size, address, allowed):
    done, off = 0, 0
    while done < size:
        n = min(CHUNK, size - done)
        want = utils.flash_read(address + done, n)
        got = ustruct.unpack_from("%ds" % n, fmap, done)[0]
        if want != got:
            for i in range(n):
                if want[i] != got[i]:
                    if abs(want[i] - got[i]) > allowed:
                        return (done + i, want[i], got[i]), "DIFFERENT"
                    off += 1
        done += n
    return None, "equal" if off == 0 else "equal but for the rounding of floats (%d of %d)" % (off, size)


def compare(fmap, how, size, crc, offset, tolerance):
    if fmap.size() < size:
        return (0, "%d bytes" % size, "%d bytes" % fmap.size()), "DIFFERENT in size"
    if how == 1:
        return compare_floats(fmap, size, DATA + offset, tolerance)
    if offset != ABSENT:
        return compare_bytes(fmap, size, DATA + offset, 2 if how == 2 else 0)
    found, done = 0, 0
    while done < size:
        n = min(CHUNK, size - done)
        found = ubinascii.crc32(ustruct.unpack_from("%ds" % n, fmap, done)[0], found)
        done += n
    found &= 0xFFFFFFFF
    if found == crc:
        return None, "equal by checksum"
    return (-1, "checksum %08x" % crc, "%08x" % found), "DIFFERENT by checksum"


def test():
    if checksum(DATA, DATA_BYTES) != DATA_CRC:
        return "FAIL: the data of the test is not in flash at 0x%06x: flash the package of this script" % DATA
    if checksum(MODEL, MODEL_BYTES) != MODEL_CRC:
        print("The model in flash at 0x%06x is not the one that was packed." % MODEL)
    print("preparing the input ...")
    data = make_input()
    gc.collect()
    try:
        task = kpu.load(MODEL)
    except Exception as e:
        return "FAIL: the model does not load: %s" % str(e).strip()
    for i in range(len(SHAPES)):
        if not kpu.set_outputs(task, i, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2]):
            return "FAIL: output %d does not have the shape %s" % (i, str(SHAPES[i]))
    first, layers = None, -1
    # From the whole model down to its first layer: where a shorter model writes, a longer one is no longer needed.
    for number in range(CHECKS):
        raw = utils.flash_read(DATA + number * RECORD_BYTES, RECORD_BYTES)
        count, output, how, size, crc, offset, tolerance, c, h, w, name = ustruct.unpack(RECORD, raw)
        name = name.replace(b"\\0", b"").decode()
        what = "layer %d (%s)" % (count - 1, name) if count else name
        if count != layers:
            if count and not kpu.set_layers(task, count):
                return "FAIL: %s: the firmware does not end the model here" % what
            try:
                fmap = kpu.forward(task, data)
            except Exception as e:
                return "FAIL: %s: the model does not run: %s" % (what, str(e).strip())
            layers = count
        if not count:
            fmap = kpu.get_output(task, output)
        bad, text = compare(fmap, how, size, crc, offset, tolerance)
        print("%-42s %8d bytes  %s" % (what, size, text))
        if bad is not None and (first is None or count):
            first = "%s: " % what
            if bad[0] >= 0 and type(bad[1]) != str:
                first += place(bad[0], c, h, w) + ": "
            first += "expected %s, got %s" % (bad[1], bad[2])
        gc.collect()
    kpu.deinit(task)
    for text in NOT_COMPARED:
        print("not compared: %s" % text)
    if first is None:
        return "PASS: the board computes what the simulator computes (comparisons: %d)" % CHECKS
    return "FAIL: " + first


print(test())
"""


def render(
    *,
    title: str,
    model: tuple[int, int, int],
    data: tuple[int, int, int],
    checks: int,
    input_offset: int,
    kind: str,
    size: tuple[int, int],
    shapes: tuple[tuple[int, int, int], ...],
    missing: tuple[str, ...],
) -> str:
    """Return the script. ``model`` and ``data`` are (address, bytes, CRC-32); ``size`` (w, h), of a list (n, 1)."""
    return _TEXT.format(
        title=title.replace("\n", " "),
        model=model[0],
        model_bytes=model[1],
        model_crc=model[2],
        data=data[0],
        data_bytes=data[1],
        data_crc=data[2],
        checks=checks,
        record=RECORD,
        record_bytes=RECORD_BYTES,
        absent=ABSENT,
        input_offset=input_offset,
        kind=kind,
        width=size[0],
        height=size[1],
        shapes=repr(shapes),
        missing=repr(missing),
        chunk=CHUNK,
    )
