// Building the page's elements. Texts from the collection are only ever set as text, never as HTML.

export const $ = id => document.getElementById(id);

/** An element with properties (`class`, `on...` listeners, `data-` and `aria-` attributes) and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export const shown = value => (typeof value === "number" ? value.toLocaleString("en") : String(value));
/** The field of the labels; version 0.1 called it `label`. */
export const labelField = metadata => ("labels" in metadata ? "labels" : "label");
export const labelsOf = metadata => [].concat(metadata[labelField(metadata)] ?? []).map(String);

/** What a row is called: its labels, its text, its picture's file, or its id. */
export const nameOf = ({ id, metadata }) =>
  labelsOf(metadata).join(", ") || metadata.text || metadata.image || String(id);
