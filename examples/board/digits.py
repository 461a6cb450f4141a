# MaixPy: name handwritten digits, white ink on black. The model is on the SD card.
import sensor, lcd, time
import KPU as kpu

lcd.init()
sensor.reset()
sensor.set_pixformat(sensor.GRAYSCALE)
sensor.set_framesize(sensor.B240X240)
sensor.run(1)

task = kpu.load("/sd/digits.kmodel")
clock = time.clock()
try:
    while True:
        clock.tick()
        img = sensor.snapshot()
        small = img.resize(28, 28)
        small.pix_to_ai()
        scores = kpu.forward(task, small)[:]
        best = max(scores)
        digit = scores.index(best)
        print("digit %d  %.2f" % (digit, best))
        img.draw_string(4, 4, "%d  %.2f  %.1f fps" % (digit, best, clock.fps()), color=255, scale=2)
        lcd.display(img)
finally:
    kpu.deinit(task)
