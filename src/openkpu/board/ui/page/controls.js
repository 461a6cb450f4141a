// The script's state, the buttons that change it, rates, and the board's keys.

import { $, el, milliseconds, plural, rate, text } from "./words.js";
import { command } from "./link.js";

const ask = (fields) => command(fields).catch((error) => console.warn(error.message));
const BOOT = 16;
const HOLD_MS = 150; // a quick tap is long enough for a script that looks now and then
const ENDS = {
  end: "The script ran to its end.",
  exit: "The script called sys.exit().",
  frames: "The wanted number of frames is reached.",
  exception: "The script raised an exception.",
  interrupt: "The script was interrupted.",
  halt: "The board stopped.",
  died: "The script's process ended unexpectedly.",
  killed: "The power was cut.",
  setup: "The board could not be set up.",
};

let state = { how: "connecting" };

export function setUpControls() {
  $("pause").onclick = () => ask({ do: "pause", on: state.how !== "paused" });
  $("stop").onclick = () => ask({ do: "stop" });
  $("restart").onclick = () => ask({ do: "restart" });
  $("pace").onchange = (event) => ask({ do: "pace", on: event.target.checked });
  showPins({ inputs: [], outputs: [] });
}

export function showHello(f) {
  document.title = `${f.script} · OpenKPU board`;
  text($("script"), f.script);
  $("script").title = f.folder;
  text($("about"), [`firmware ${f.firmware ?? "full"}`, f.time === "real" ? "this computer's time" : "the chip's time"].join(" · "));
  document.querySelector(".switch").hidden = f.time === "real";
}

/** Show how the script is; returns whether another run has begun. */
export function showState(f) {
  const fresh = f.run !== state.run;
  state = f;
  const ended = f.how === "ended";
  const failed = ended && f.result && f.result.code !== 0 && f.result.how !== "interrupt" && f.result.how !== "killed";
  pill(f.asking && f.how === "running" ? "asking" : failed ? "failed" : ended ? "done" : f.how,
    f.asking && f.how === "running" ? "waits for input" : failed ? "failed" : f.how);
  const paused = f.how === "paused";
  text($("pause").lastElementChild, paused ? "Go on" : "Pause");
  $("pause").disabled = !(paused || f.how === "running");
  $("pause").setAttribute("aria-pressed", paused);
  text($("stop").lastElementChild, f.how === "stopping" ? "Cut power" : "Stop");
  $("stop").classList.toggle("danger", f.how === "stopping");
  $("stop").disabled = ended;
  text($("restart").lastElementChild, ended ? "Run again" : "Restart");
  document.body.classList.toggle("paused-picture", paused);
  showResult(ended ? f.result : null);
  return fresh;
}

export function pill(how, words) {
  $("state").dataset.how = how;
  text($("state"), words);
}

export function showSwitches(f) {
  $("pace").checked = f.paced;
}

function showResult(result) {
  const box = $("result");
  box.hidden = !result;
  if (!result) return;
  const quiet = result.code === 0 || result.how === "interrupt" || result.how === "killed";
  box.className = `banner ${quiet ? "" : "failed"}`;
  const parts = [];
  if (result.snapshots) parts.push(`${plural(result.snapshots, "snapshot")}`);
  if (result.displays) parts.push(`${plural(result.displays, "display")}`);
  if (result.fps) parts.push(`${rate(result.fps)} frames a second`);
  if (result.model_runs) parts.push(`${plural(result.model_runs, "model run")} of ${milliseconds(result.model_us)} ms`);
  if (result.written?.length) parts.push(`wrote ${result.written.join(", ")}`);
  box.replaceChildren(el("b", {}, ENDS[result.how] ?? result.how), ` Exit code ${result.code}${parts.length ? ": " : "."}`, parts.join(" · "));
  if (result.error) {
    const rows = el("dl");
    for (const name of ["what", "where", "why", "fix"]) {
      if (result.error[name]) rows.append(el("dt", {}, name === "what" ? result.error.code : name), el("dd", {}, result.error[name]));
    }
    box.append(rows);
  }
}

export function showRates(f) {
  text($("fps-chip"), rate(f.chip));
  text($("fps-here"), rate(f.here));
  const times = f.chip && f.here ? f.here / f.chip : 0;
  text($("fps-ratio"), times && Math.abs(times - 1) > 0.05 ? `${times.toFixed(times < 10 ? 2 : 0)}× the chip's speed` : "frames a second");
  text($("time"), f.us < 60e6 ? `${(f.us / 1e6).toFixed(f.us < 10e6 ? 2 : 1)} s` : `${Math.floor(f.us / 60e6)} min ${Math.floor((f.us / 1e6) % 60)} s`);
  text($("counts"), f.snapshots ? plural(f.snapshots, "snapshot") : plural(f.displays, "display"));
}

export function showForward(runs) {
  const last = runs.length ? runs.reduce((a, b) => (b.start > a.start ? b : a)) : null;
  text($("forward"), last ? `${milliseconds(last.us)} ms` : "–");
  text($("forward-runs"), last ? plural(runs.reduce((sum, run) => sum + run.count, 0), "run") : "no run yet");
}

// -- keys ---------------------------------------------------------------------------------------------------------

let shownKeys = "";

export function showPins({ inputs, outputs }) {
  const read = new Map(inputs.map((pin) => [pin.pin, pin]));
  const pins = [...new Set([BOOT, ...read.keys()])];
  const wanted = JSON.stringify(pins.map((pin) => [pin, read.has(pin)]));
  const box = $("keys");
  if (wanted !== shownKeys) {
    shownKeys = wanted;
    box.replaceChildren(...pins.map((pin) => key(pin, read.get(pin))));
  }
  for (const led of box.querySelectorAll(".led")) led.remove();
  box.append(...outputs.map((o) => {
    const high = o.level === 1;
    return el("span", { className: `led ${high ? "high" : ""}` }, `pin ${o.pin} ${high ? "high" : "low"}`);
  }));
}

function key(pin, read) {
  const small = read ? `pin ${pin}` : "not read yet";
  const button = el("button", { type: "button", className: `key ${read ? "" : "unread"}` },
    el("span", {}, pin === BOOT ? "BOOT" : `Key ${pin}`), el("small", {}, small));
  button.dataset.pin = pin;
  button.title = `Hold it down: pin ${pin} is low`;
  let since = 0;
  const down = () => {
    if (since) return;
    since = performance.now();
    button.classList.add("down");
    ask({ do: "key", pin, up: false });
  };
  const up = () => {
    if (!since) return;
    const wait = Math.max(0, HOLD_MS - (performance.now() - since));
    setTimeout(() => {
      since = 0;
      button.classList.remove("down");
      ask({ do: "key", pin, up: true });
    }, wait);
  };
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    down();
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) button.addEventListener(name, up);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  const presses = (event) => event.key === " " || event.key === "Enter";
  button.addEventListener("keydown", (event) => {
    if (!presses(event)) return;
    event.preventDefault();
    down();
  });
  button.addEventListener("keyup", (event) => presses(event) && up());
  return button;
}
