// This computer's webcam as the board's camera: pictures of the frame's size, one at a time, as fast as they are taken.

import { $, text } from "./words.js";
import { command, send } from "./link.js";

const LEAST_MS = 33;
const LARGEST = 1024;

export class Webcam {
  constructor() {
    this.frame = [320, 240];
    this.stream = null;
    this.canvas = new OffscreenCanvas(1, 1);
    $("webcam").onclick = () => (this.stream || this.live ? this.stop() : this.start());
    this.live = false;
  }

  /** The board says whether it uses webcam pictures; another page may have changed that. */
  showLive(live) {
    this.live = live;
    if (!live && this.stream) this.close();
    this.show();
  }

  show() {
    const on = this.stream !== null || this.live;
    $("webcam").setAttribute("aria-pressed", on);
    text($("webcam").lastElementChild, on ? "Webcam is on" : "Use my webcam");
  }

  async start() {
    $("webcam-error").hidden = true;
    try {
      if (!navigator.mediaDevices) throw new Error("this browser gives no camera to this page");
      const [width, height] = this.frame;
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: Math.max(width, 320) }, height: { ideal: Math.max(height, 240) } } });
      const video = $("video");
      video.srcObject = this.stream;
      await video.play();
      await this.picture();
      await command({ do: "camera", live: true });
      this.show();
      this.loop(this.stream);
    } catch (error) {
      this.fail(error);
    }
  }

  async loop(stream) {
    while (this.stream === stream) {
      const began = performance.now();
      try {
        await this.picture();
      } catch (error) {
        if (this.stream === stream) this.fail(error);
        return;
      }
      await new Promise((done) => setTimeout(done, Math.max(0, LEAST_MS - (performance.now() - began))));
    }
  }

  /** Take a picture that covers the frame, as the board would cut it, and send it. */
  async picture() {
    const video = $("video");
    const shrink = Math.min(1, LARGEST / Math.max(...this.frame));
    const [w, h] = this.frame.map((side) => Math.max(8, Math.round(side * shrink)));
    const scale = Math.max(w / video.videoWidth, h / video.videoHeight);
    const [cw, ch] = [w / scale, h / scale];
    this.canvas.width = w;
    this.canvas.height = h;
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, (video.videoWidth - cw) / 2, (video.videoHeight - ch) / 2, cw, ch, 0, 0, w, h);
    const rgba = context.getImageData(0, 0, w, h).data;
    const rgb = new Uint8Array(w * h * 3);
    for (let i = 0, j = 0; j < rgb.length; i += 4, j += 3) {
      rgb[j] = rgba[i];
      rgb[j + 1] = rgba[i + 1];
      rgb[j + 2] = rgba[i + 2];
    }
    await send(`picture?w=${w}&h=${h}`, rgb);
  }

  fail(error) {
    this.stop();
    $("webcam-error").hidden = false;
    text($("webcam-error"), `No webcam: ${error.message}`);
  }

  stop() {
    this.close();
    command({ do: "camera", live: false }).catch(() => {});
    this.show();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    $("video").srcObject = null;
  }
}
