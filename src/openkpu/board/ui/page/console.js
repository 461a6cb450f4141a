// The console: what the script prints, what the board explains, and a line for scripts that ask.

import { $, el } from "./words.js";
import { command } from "./link.js";

const MOST_LINES = 4000;
const AT_END = 40;

export class Console {
  constructor() {
    this.box = $("console");
    this.open = null; // the line that has no end yet
    this.sticky = true;
    this.box.addEventListener("scroll", () => {
      this.sticky = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < AT_END;
      $("jump").hidden = this.sticky;
    });
    $("jump").onclick = () => this.toEnd();
    $("clear").onclick = () => this.clear();
    $("copy").onclick = () => this.copy();
    $("notes").onchange = (event) => {
      this.box.classList.toggle("no-notes", !event.target.checked);
      if (this.sticky) this.toEnd();
    };
    $("ask").onsubmit = (event) => {
      event.preventDefault();
      command({ do: "line", text: $("line").value }).catch(() => {});
      $("line").value = "";
    };
  }

  /** Add pieces of text, each with its style. */
  add({ pieces, skipped }) {
    const made = document.createDocumentFragment();
    if (skipped) made.append(el("div", { className: "info" }, `${skipped.toLocaleString("en-US")} characters left out`));
    for (const [style, words] of pieces) {
      const lines = words.split("\n");
      lines.forEach((line, i) => {
        const last = i === lines.length - 1;
        if (last && line === "") return;
        if (this.open === null || this.open.className !== style) {
          this.open = el("div", { className: style });
          made.append(this.open);
        }
        this.open.append(line);
        if (!last) {
          if (!this.open.textContent) this.open.append("\u200b"); // an empty line has a height too
          this.open = null;
        }
      });
    }
    this.box.append(made);
    while (this.box.childElementCount > MOST_LINES) this.box.firstElementChild.remove();
    if (this.sticky) this.toEnd();
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.sticky = true;
    $("jump").hidden = true;
  }

  clear() {
    this.box.replaceChildren();
    this.open = null;
    this.toEnd();
  }

  async copy() {
    const lines = [...this.box.children].filter((line) => line.offsetParent !== null);
    const words = lines.map((line) => (line.className === "note" ? "board: " : "") + line.textContent.replace("\u200b", ""));
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(words.join("\n") + "\n");
    } catch {
      done = "Not allowed";
    }
    $("copy").textContent = done;
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  }

  /** Show or hide the line to type. */
  ask(on) {
    if ($("ask").hidden === !on) return;
    $("ask").hidden = !on;
    if (on && document.activeElement === document.body) $("line").focus();
  }
}
