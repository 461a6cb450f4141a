// Small helpers that all parts of the page share.

export const $ = (id) => document.getElementById(id);

/** Make an element: el("p", {className: "soft"}, "text", child). */
export function el(tag, fields = {}, ...children) {
  const made = Object.assign(document.createElement(tag), fields);
  made.append(...children);
  return made;
}

/** Make an SVG element with attributes. */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Set a text only when it changes, so that screen readers and selections are left alone. */
export function text(target, value) {
  if (target.textContent !== value) target.textContent = value;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(2)} MiB`;
}

export const exact = (n) => n.toLocaleString("en-US");

export function milliseconds(us) {
  const ms = us / 1000;
  return ms.toFixed(ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0);
}

export function rate(value) {
  return value == null ? "–" : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

export function plural(n, what) {
  return `${exact(n)} ${what}${n === 1 ? "" : "s"}`;
}
