// The gauges of both RAMs, and the bill of main RAM line by line.

import { $, el, exact, size, text } from "./words.js";

const KINDS = [
  ["firmware", (what) => what.startsWith("firmware")],
  ["gc", (what) => what.startsWith("GC heap")],
  ["camera", (what) => what.startsWith("camera")],
  ["display", (what) => what.startsWith("display")],
  ["model", (what) => what.includes("model: ") || /yolo/i.test(what)],
  ["other", () => true],
];
const kindOf = (what) => KINDS.find(([, is]) => is(what))[0];

function fill(bar, part, whole) {
  const share = whole ? (100 * part) / whole : 0;
  bar.firstElementChild.style.width = `${share}%`;
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", whole);
  bar.setAttribute("aria-valuenow", part);
}

let shownBill = "";

export function showMemory(f) {
  text($("main-text"), `${size(f.system_free)} free of ${size(f.system_size)}`);
  text($("gc-text"), `${size(f.gc_free)} free of ${size(f.gc_size)}`);
  fill($("gc-bar"), f.gc_size - f.gc_free, f.gc_size);
  const bill = JSON.stringify(f.bill);
  if (bill === shownBill) return;
  shownBill = bill;
  const order = KINDS.map(([kind]) => kind);
  const lines = f.bill.map(([what, bytes]) => ({ what, bytes, kind: kindOf(what) }));
  lines.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  const total = lines.reduce((sum, line) => sum + line.bytes, 0);
  $("main-bar").replaceChildren(
    ...lines.map((line) => {
      const part = el("i", { className: line.kind, title: `${line.what}: ${exact(line.bytes)} B` });
      part.style.width = `${(100 * line.bytes) / f.system_size}%`;
      return part;
    }),
  );
  $("main-bar").setAttribute("aria-label", `Main RAM: ${exact(total)} of ${exact(f.system_size)} bytes in use`);
  const rows = lines.map((line) => row(line.kind, line.what, line.bytes));
  $("bill").replaceChildren(...rows, row("left", "free", f.system_size - total));
}

function row(kind, what, bytes) {
  return el("tr", { className: kind === "left" ? "left" : "" },
    el("td", {}, el("i", { className: kind }), what), el("td", {}, `${exact(bytes)} B`));
}

export function showAi(models, whole) {
  let most = 0, where = "";
  for (const model of models) {
    const peak = Math.max(0, ...model.ai);
    if (peak > most) [most, where] = [peak, `step ${model.ai.indexOf(peak)}`];
  }
  fill($("ai-bar"), most, whole);
  text($("ai-text"), most ? `${size(most)} of ${size(whole)} at most, in ${where}` : `nothing of ${size(whole)}`);
}

export function clearMemory() {
  shownBill = "";
  for (const id of ["main-bar", "bill"]) $(id).replaceChildren();
  for (const id of ["main-text", "gc-text"]) text($(id), "");
  fill($("gc-bar"), 0, 1);
  showAi([], 2 * 1024 * 1024);
}
