# MaixPy: name what the camera sees. The model is in flash at 0x300000, the labels are on the SD card.
import sensor, image, lcd, time
import KPU as kpu
import gc, sys

INPUT = 96


def main(model_addr=0x300000):
    with open("labels.txt") as f:
        labels = f.read().split()
    lcd.init()
    lcd.clear(lcd.WHITE)
    sensor.reset()
    sensor.set_pixformat(sensor.RGB565)
    sensor.set_framesize(sensor.B240X240)
    sensor.run(1)
    task = None
    try:
        task = kpu.load(model_addr)
        print(task)
        while True:
            img = sensor.snapshot()
            small = img.resize(INPUT, INPUT)
            small.pix_to_ai()
            t = time.ticks_us()
            scores = kpu.forward(task, small)[:]
            t = time.ticks_diff(time.ticks_us(), t)
            ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
            for line, i in enumerate(ranked[:3]):
                img.draw_string(2, 2 + 20 * line, "%s %.2f" % (labels[i], scores[i]), color=(255, 0, 0), scale=1.5)
            print(labels[ranked[0]], "%.1f ms" % (t / 1000))
            lcd.display(img)
    finally:
        if task is not None:
            kpu.deinit(task)


try:
    main()
except Exception as e:
    sys.print_exception(e)
finally:
    gc.collect()
