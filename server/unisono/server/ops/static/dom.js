// Elements and words.  Whatever a client or an operator wrote ends up in text nodes, never in markup.

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined).map(node));
  return element;
}

function node(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

// Changes the page only where something changed: readers, selections and screen readers are left alone.
export function say(element, words) {
  const text = String(words);
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  const text = value === null || value === undefined || value === false ? null : String(value);
  if (text === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

// As in the terminal: 812 B, 2.1 kB, 25.0 MB.
export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return unit === 0 || value >= 99.95 ? `${value.toFixed(0)} ${units[unit]}` : `${value.toFixed(1)} ${units[unit]}`;
}

// As in the terminal: 0.21 s, 14 s, 1 m 12 s, 3 h 5 m.
export function seconds(count) {
  if (count === null || count === undefined) return "";
  if (count > 0 && count < 10) return count < 1 ? `${count.toFixed(2)} s` : `${count.toFixed(1)} s`;
  const whole = Math.round(count);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} days`;
}

export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return value === null || value === undefined ? "" : String(value);
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 0.001 && size < 100000 ? value.toFixed(size < 10 ? 4 : 2) : value.toExponential(2);
}

export function many(count, one, more) {
  return `${count} ${count === 1 ? one : more || one + "s"}`;
}

// Made once: a formatter costs more than the fifty times it is asked.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });
const MINUTE = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });

export function clock(wall) {
  return wall ? CLOCK.format(wall * 1000) : "";
}

export function day(wall) {
  return wall ? DAY.format(wall * 1000) : "";
}

export function minute(wall) {
  return wall ? MINUTE.format(wall * 1000) : "";
}

export function ago(wall, now = Date.now() / 1000) {
  if (!wall) return "never";
  const gone = Math.max(0, now - wall);
  return gone < 5 ? "just now" : `${seconds(gone)} ago`;
}

export function time(wall, words) {
  return h("time", { datetime: wall ? new Date(wall * 1000).toISOString() : null, title: day(wall) }, words);
}

export function short(digest) {
  return digest ? h("code", { title: digest }, digest.slice(0, 12)) : "";
}

export function spell(word) {
  return String(word || "").replaceAll("_", " ");
}

export function command(...lines) {
  return h("pre", { class: "command", tabindex: "0", role: "group", "aria-label": "command" }, h("code", null, lines.join("\n")));
}

export function empty(title, words, ...commands) {
  return h("section", { class: "card empty" }, h("h2", null, title), h("p", null, words), ...commands);
}

export function badge(kind, words, title) {
  return h("span", { class: `badge ${kind}`, title }, words);
}

export const STATES = {
  waiting: "calm", running: "busy", finished: "good", failed: "bad", stopped: "calm",
  online: "good", offline: "calm", revoked: "bad",
};

export function state(word) {
  return badge(STATES[word] || "calm", word);
}

export function protection(mode) {
  const words = { secagg: "only sums are seen", sealed: "single updates can be read", he: "only ciphertexts are seen" };
  return badge(mode === "sealed" ? "warn" : "good", `${mode} · ${words[mode] || "protected"}`);
}
