// The page of a virtual board: connects, and gives every event to the part that shows it.

import { $, text } from "./words.js";
import { follow } from "./link.js";
import { Console } from "./console.js";
import { Screen } from "./screen.js";
import { Webcam } from "./webcam.js";
import { clearMemory, showAi, showMemory } from "./memory.js";
import { clearModels, showModels, showRuns } from "./layers.js";
import { pill, setUpControls, showForward, showHello, showPins, showRates, showState, showSwitches } from "./controls.js";

const RETRY_MS = 1000, SILENCE_MS = 7000;

const lcd = new Screen($("lcd")), camera = new Screen($("camera"));
const terminal = new Console(), webcam = new Webcam();
let runs = [];

/** Another run: the board is off. */
function clear() {
  lcd.clear();
  camera.clear();
  clearMemory();
  clearModels();
  runs = [];
  showForward(runs);
  showPins({ inputs: [], outputs: [] });
  showRates({ chip: null, here: null, us: 0, snapshots: 0, displays: 0 });
  for (const id of ["lcd-note", "camera-note"]) text($(id), "");
}

const parts = {
  hello: showHello,
  state(f) {
    if (showState(f)) clear();
    terminal.ask(f.asking && f.how !== "ended");
  },
  switches(f) {
    showSwitches(f);
    webcam.showLive(f.live);
  },
  log: (f) => terminal.add(f),
  frame(f, data) {
    lcd.show(f.w, f.h, data);
    text($("lcd-note"), `${f.w}×${f.h}`);
  },
  camera(f, data) {
    camera.show(f.w, f.h, data);
    webcam.frame = f.frame;
    const window = f.frame[0] !== f.w || f.frame[1] !== f.h ? ` of ${f.frame.join("×")}` : "";
    text($("camera-note"), `${f.w}×${f.h}${window}`);
  },
  memory: showMemory,
  models(f) {
    showModels(f.models, f.ai_size);
    showAi(f.models, f.ai_size);
    showRuns(runs);
  },
  runs(f) {
    runs = f.runs;
    showRuns(runs);
    showForward(runs);
  },
  rates: showRates,
  pins: showPins,
  beat: (f) => text($("missed"), f.dropped ? `This page left out ${f.dropped.toLocaleString("en-US")} pictures: they came faster than it shows them.` : ""),
};

function lost(words, final = false) {
  $("lost").hidden = false;
  $("lost").className = "banner warn";
  text($("lost"), words);
  pill("lost", final ? "ended" : "not connected");
}

async function stay() {
  let over = false;
  while (!over) {
    const silence = new AbortController();
    let timer = 0;
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    listen();
    try {
      terminal.clear();
      await follow((kind, fields, data) => {
        listen();
        $("lost").hidden = true;
        if (kind === "bye") over = true;
        else parts[kind]?.(fields, data);
      }, silence.signal);
    } catch (error) {
      console.warn(error.message);
    }
    clearTimeout(timer);
    if (over) break;
    lost("The connection to kpu board is lost; trying again. If it has ended, start it again and open its new address.");
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
  webcam.close();
  for (const button of document.querySelectorAll(".controls button, .key, #webcam")) button.disabled = true;
  lost("kpu board has ended. What you see is how it was at its end.", true);
}

$("rotate").onclick = () => lcd.turn();
$("save").onclick = () => lcd.save(`${$("script").textContent.replace(/\.py$/, "")}.png`);
setUpControls();
clear();
stay();
