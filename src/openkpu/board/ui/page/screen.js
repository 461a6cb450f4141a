// A canvas that shows RGB888 pictures with crisp pixels, turned as wanted.

export class Screen {
  constructor(canvas) {
    this.canvas = canvas;
    this.glass = canvas.parentElement;
    this.context = canvas.getContext("2d");
    this.buffer = new OffscreenCanvas(1, 1);
    this.pixels = null;
    this.turns = 0;
    this.waiting = null;
    this.shown = 0;
    new ResizeObserver(() => this.fit()).observe(this.glass);
    this.clear();
  }

  /** Show the newest picture at the screen's next refresh. */
  show(width, height, rgb) {
    const first = this.waiting === null;
    this.waiting = { width, height, rgb };
    this.glass.classList.remove("off");
    if (!first) return;
    if (document.hidden) this.draw();
    else requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (this.waiting === null) return;
    const { width, height, rgb } = this.waiting;
    this.waiting = null;
    if (this.pixels === null || this.pixels.width !== width || this.pixels.height !== height) {
      this.pixels = new ImageData(width, height);
      this.buffer.width = width;
      this.buffer.height = height;
    }
    const out = new Uint32Array(this.pixels.data.buffer);
    for (let i = 0, j = 0; i < out.length; i++, j += 3) {
      out[i] = 0xff000000 | (rgb[j + 2] << 16) | (rgb[j + 1] << 8) | rgb[j];
    }
    this.buffer.getContext("2d").putImageData(this.pixels, 0, 0);
    this.shown += 1;
    this.canvas.dataset.shown = this.shown;
    this.paint();
  }

  paint() {
    const { width, height } = this.buffer;
    const turned = this.turns % 2 === 1;
    const [w, h] = turned ? [height, width] : [width, height];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.fit();
    }
    const c = this.context;
    c.setTransform(1, 0, 0, 1, w / 2, h / 2);
    c.rotate((this.turns * Math.PI) / 2);
    c.imageSmoothingEnabled = false;
    c.drawImage(this.buffer, -width / 2, -height / 2);
  }

  turn() {
    this.turns = (this.turns + 1) % 4;
    this.paint();
  }

  /** Save the picture as it is shown, one pixel for each of the board's. */
  save(name) {
    this.canvas.toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }, "image/png");
  }

  /** As large as fits, each pixel a whole number of the screen's pixels where there is room for that. */
  fit() {
    const style = getComputedStyle(this.glass);
    const room = this.glass.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const tall = this.glass.classList.contains("small") ? 260 : 500;
    const most = Math.min(room / this.canvas.width, tall / this.canvas.height);
    const ratio = window.devicePixelRatio || 1;
    const whole = Math.floor(most * ratio) / ratio;
    this.canvas.style.width = `${Math.floor(this.canvas.width * (whole > 0 ? whole : most))}px`;
  }

  clear() {
    this.waiting = null;
    this.glass.classList.add("off");
  }
}
