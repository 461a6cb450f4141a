// The time line of each model's layers: width is time, colour is who works, the curve is the AI RAM in use.

import { $, el, exact, milliseconds, plural, size, svg } from "./words.js";

const WIDE = 1000, TALL = 64, BAR = 34, LEAST = 0.6;
const WHO = { kpu: "KPU", cpu: "CPU", dma: "DMA" };

class Row {
  constructor(model, whole) {
    this.model = model;
    this.whole = whole;
    this.layers = model.us.length;
    this.selected = -1;
    this.time = el("span", { className: "soft" });
    this.readout = el("div", { className: "readout" });
    this.readout.setAttribute("aria-live", "polite");
    this.table = el("details", {}, el("summary", {}, plural(model.us.length, "step")));
    this.table.ontoggle = () => this.table.open && this.fillTable();
    this.chart = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img", tabindex: 0 });
    this.draw();
    this.chart.addEventListener("pointermove", (event) => {
      const box = this.chart.getBoundingClientRect();
      this.select(this.at(((event.clientX - box.left) / box.width) * WIDE));
    });
    this.chart.addEventListener("pointerleave", () => this.select(-1));
    this.chart.addEventListener("blur", () => this.select(-1));
    this.chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.select(Math.min(this.layers - 1, Math.max(0, this.selected + step)));
    });
    this.node = el("div", { className: "model-row" },
      el("div", { className: "label" }, el("b", {}, model.name), this.time), this.chart, this.readout, this.table);
    this.node.dataset.model = model.id;
    this.select(-1);
  }

  /** How many steps the last run had: set_layers cuts a model short. */
  ran(run) {
    const extra = run.us - this.total();
    const more = extra > 1 && run.layers === this.layers ? ", with reading the flash" : "";
    this.time.textContent = `${milliseconds(run.us)} ms a run${more} · ${plural(run.count, "run")}`;
    if (run.layers !== this.layers) {
      this.layers = run.layers;
      this.draw();
      this.select(-1);
    }
  }

  total() {
    return this.model.us.slice(0, this.layers).reduce((sum, us) => sum + us, 0);
  }

  draw() {
    const { us, kinds, ai } = this.model, total = this.total() || 1;
    this.edges = [0];
    let curve = `M0 ${BAR - 4}`, top = "";
    const bars = [];
    for (let i = 0; i < this.layers; i++) {
      const x = this.edges[i], width = (WIDE * us[i]) / total;
      const y = (BAR - 4) * (1 - (ai[i] ?? 0) / this.whole);
      curve += `L${x.toFixed(2)} ${y.toFixed(2)}H${(x + width).toFixed(2)}`;
      top += `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}H${(x + width).toFixed(2)}`;
      const gap = width > 4 ? 1 : width > 2 ? 0.5 : 0;
      bars.push(svg("rect", { class: kinds[i] ?? "not", x, y: BAR, width: Math.max(width - gap, LEAST), height: TALL - BAR }));
      this.edges.push(x + width);
    }
    this.bars = bars;
    this.chart.replaceChildren(svg("path", { class: "ai", d: `${curve}L${WIDE} ${BAR - 4}Z` }), svg("path", { class: "ai-line", d: top }), ...bars);
    this.chart.setAttribute("aria-label",
      `Time line of ${this.model.name}: ${plural(this.layers, "step")}; arrow keys read them out`);
    if (this.table.open) this.fillTable();
  }

  at(x) {
    let i = 0;
    while (i < this.layers - 1 && this.edges[i + 1] <= x) i++;
    return i;
  }

  select(i) {
    this.bars[this.selected]?.classList.remove("on");
    this.selected = i;
    if (i < 0) {
      const sums = { kpu: 0, cpu: 0, dma: 0 };
      for (let k = 0; k < this.layers; k++) sums[this.model.kinds[k]] += this.model.us[k];
      const parts = Object.entries(sums).filter(([, us]) => us > 0).map(([kind, us]) => `${WHO[kind]} ${milliseconds(us)} ms`);
      this.readout.textContent = [...parts, `file ${size(this.model.bytes)}`, `scratch buffer ${size(this.model.main)}`].join(" · ");
      return;
    }
    this.bars[i]?.classList.add("on");
    const { steps, us, ai } = this.model;
    this.readout.replaceChildren(el("b", {}, `step ${steps[i]}`),
      ` ${this.shape(i)} · ${milliseconds(us[i])} ms · AI RAM ${size(ai[i] ?? 0)}`);
  }

  shape(i) {
    return (this.model.shapes[i] ?? []).join("×");
  }

  fillTable() {
    const { steps, us, kinds, ai } = this.model;
    const head = ["#", "step", "where", "result", "ms", "AI RAM"].map((name, i) => el("th", { className: i > 3 ? "n" : "" }, name));
    const rows = steps.slice(0, this.layers).map((step, i) => {
      const [number, name] = step.split(" ", 2);
      const cells = [number, name, WHO[kinds[i]], this.shape(i), milliseconds(us[i]), `${exact(ai[i] ?? 0)} B`];
      return el("tr", {}, ...cells.map((cell, k) => el("td", { className: k > 3 ? "n" : "" }, cell)));
    });
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
    this.table.replaceChildren(this.table.firstElementChild, el("div", { className: "scroll" }, table));
  }
}

const rows = new Map();

export function showModels(models, whole) {
  const ids = new Set(models.map((model) => model.id));
  for (const id of [...rows.keys()]) if (!ids.has(id)) rows.delete(id);
  for (const model of models) if (!rows.has(model.id)) rows.set(model.id, new Row(model, whole));
  const empty = el("p", { className: "empty-line soft" }, "No model is loaded.");
  $("models").replaceChildren(...(rows.size ? [...rows.values()].map((row) => row.node) : [empty]));
}

export function showRuns(runs) {
  for (const run of runs) rows.get(run.id)?.ran(run);
}

export function clearModels() {
  rows.clear();
  showModels([], 1);
}
