// Filters from the metadata that is there: values with their counts, ranges of dates and numbers, and the distance.

import { $, element, shown } from "./dom.js";
import { filterCount, go, read, withoutFilters } from "./state.js";

const FEW = 8; // values that are shown at first
let facets = [];
let bits = 64;
const expanded = new Set();

export function setBits(value) {
  bits = value;
  $("radius").max = bits;
  render(read());
}

export function setFacets(value) {
  facets = value;
  render(read());
}

const same = ([field, value]) => ([otherField, otherValue]) => field === otherField && value === otherValue;
const nameOfValue = value => (value === true ? "yes" : value === false ? "no" : shown(value));

function toggle(filter) {
  const { filters } = read();
  const isChosen = filters.some(same(filter));
  go({ filters: isChosen ? filters.filter(other => !same(filter)(other)) : [...filters, filter] });
}

function setEnd(field, end, value) {
  const others = read().ends.filter(([name, which]) => name !== field || which !== end);
  go({ ends: value === null ? others : [...others, [field, end, value]] });
}

/** Draw everything anew; what had the focus gets it again. */
export function render(state) {
  const focused = document.activeElement?.dataset.key;
  const radius = state.radius ?? bits;
  $("radius").value = radius;
  $("radiusValue").textContent = radius >= bits ? "any" : radius;
  const controls = facets.map(facet => (facet.kind === "values" ? choice : range)(facet, state));
  $("facets").replaceChildren(...controls);
  const count = filterCount(state);
  $("filterCount").hidden = !count;
  $("filterCount").textContent = `(${count})`;
  renderActive(state);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

const fieldset = (field, ...parts) => element("fieldset", { class: "field" }, element("legend", {}, field), ...parts);
const chip = (options, ...words) =>
  element("li", {}, element("button", { type: "button", class: "chip", ...options }, ...words));

function choice({ field, values, distinct }, state) {
  const isExpanded = expanded.has(field);
  const chosen = state.filters.filter(([name]) => name === field);
  const missing = chosen.filter(([, value]) => !values.some(one => one.value === value));
  const all = [...missing.map(([, value]) => ({ value, count: null })), ...values];
  const visible = isExpanded ? all : all.filter(({ value }, place) => place < FEW || chosen.some(same([field, value])));
  const chips = visible.map(({ value, count }) => {
    const filter = [field, value];
    const isPressed = String(chosen.some(same(filter)));
    const number = count === null ? null : element("span", { class: "number" }, ` ${shown(count)}`);
    const options = { "aria-pressed": isPressed, "data-key": `has ${field} ${value}`, onclick: () => toggle(filter) };
    return chip(options, nameOfValue(value), number);
  });
  if (all.length > FEW) {
    const flip = () => {
      if (!expanded.delete(field)) expanded.add(field);
      render(read());
    };
    const words = isExpanded ? "fewer" : `${shown(all.length - visible.length)} more`;
    chips.push(chip({ "aria-expanded": String(isExpanded), "data-key": `more ${field}`, onclick: flip }, words));
  }
  const isCut = isExpanded && distinct > values.length;
  const rest = isCut ? element("p", { class: "count" }, `${shown(distinct)} in all`) : null;
  return fieldset(field, element("ul", { class: "chips" }, ...chips), rest);
}

function range({ field, kind, min, max }, state) {
  const isDate = kind === "date";
  const hasTime = isDate && max.length > 10;
  const bounds = isDate ? { min: min.slice(0, 10), max: max.slice(0, 10) } : { min, max };
  const ends = ["min", "max"].map(end => {
    const [, , value] = state.ends.find(([name, which]) => name === field && which === end) ?? [];
    const kindOfInput = isDate ? { type: "date" } : { type: "number", step: "any" };
    const input = element("input", { ...kindOfInput, ...bounds, "data-key": `${end} ${field}` });
    input.value = value === undefined ? "" : isDate ? String(value).slice(0, 10) : value;
    input.placeholder = isDate ? "" : String(bounds[end]);
    input.addEventListener("change", () => {
      const chosen = isDate ? input.value + (end === "max" && hasTime ? "T23:59:59.999" : "") : Number(input.value);
      setEnd(field, end, input.value === "" ? null : chosen);
    });
    return element("label", {}, end === "min" ? "from" : "to", input);
  });
  return fieldset(field, element("div", { class: "ends" }, ...ends));
}

/** The filters in use, above the results, each with a button that removes it. */
function renderActive(state) {
  const used = state.filters.map(filter => [`${filter[0]}: ${nameOfValue(filter[1])}`, () => toggle(filter)]);
  for (const [field, end, value] of state.ends) {
    const words = typeof value === "string" ? value.slice(0, 10) : shown(value);
    used.push([`${field} ${end === "min" ? "from" : "to"} ${words}`, () => setEnd(field, end, null)]);
  }
  if (state.radius !== null) used.push([`distance at most ${state.radius}`, () => go({ radius: null })]);
  const items = used.map(([words, remove]) => {
    return chip({ class: "chip used", "aria-label": `Remove ${words}`, onclick: remove }, `${words} ×`);
  });
  if (items.length > 1) items.push(chip({ onclick: () => go(withoutFilters) }, "Clear all"));
  $("active").hidden = !items.length;
  $("active").replaceChildren(...items);
}

let timer = null;
$("radius").addEventListener("input", () => {
  const radius = Number($("radius").value);
  $("radiusValue").textContent = radius >= bits ? "any" : radius;
  clearTimeout(timer);
  timer = setTimeout(() => go({ radius: radius >= bits ? null : radius }, { replace: read().radius !== null }), 200);
});
$("fold").addEventListener("change", () => go({ duplicates: $("fold").checked ? "fold" : "show" }));
$("filters").open = matchMedia("(min-width: 52rem)").matches;
