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
export const labelsOf = metadata => [].concat(metadata.label ?? []).map(String);

/** What a row is called: its labels, its text, or its id. */
export const nameOf = row => labelsOf(row.metadata).join(", ") || row.metadata.text || String(row.id);
