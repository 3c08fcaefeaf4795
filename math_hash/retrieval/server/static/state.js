// What the page shows is its address: Back and Forward, links and bookmarks work.
//
// text: words; like: id of a row; upload: number of an uploaded picture; filters: [field, value] pairs;
// ends: [field, "min" or "max", value]; radius: a number; duplicates: "fold" or "show"; open: id of the row that is
// shown large. What is not there is null; which of "fold" and "show" that means depends on the collection.

const listeners = [];
const uploads = new Map(); // files cannot be in an address; they last as long as the page

/** A value as it stands in the address: as it is if that is read back as a text, otherwise as JSON. */
const encode = value => (typeof value === "string" && decode(value) === value ? value : JSON.stringify(value));

function decode(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? text : value;
  } catch {
    return text;
  }
}

export function read(address = location.search) {
  const parameters = new URLSearchParams(address);
  const radius = parameters.get("radius");
  const state = {
    text: parameters.get("q") || null,
    like: parameters.get("like"),
    upload: parameters.get("upload"),
    radius: radius !== null && /^\d{1,4}$/.test(radius) ? Number(radius) : null,
    duplicates: parameters.get("duplicates"),
    open: parameters.get("open"),
    filters: [],
    ends: [],
  };
  for (const [name, value] of parameters) {
    const [, kind, field] = /^(has|min|max)\.(.+)$/s.exec(name) ?? [];
    if (kind === "has") state.filters.push([field, decode(value)]);
    else if (kind) state.ends.push([field, kind, decode(value)]);
  }
  return state;
}

export function address(state) {
  const parameters = new URLSearchParams();
  const named = { q: state.text, like: state.like, upload: state.upload };
  const set = { ...named, radius: state.radius, duplicates: state.duplicates, open: state.open };
  for (const [name, value] of Object.entries(set)) if (value !== null) parameters.set(name, value);
  for (const [field, value] of state.filters) parameters.append(`has.${field}`, encode(value));
  for (const [field, end, value] of state.ends) parameters.set(`${end}.${field}`, encode(value));
  const text = parameters.toString();
  return text ? `?${text}` : location.pathname;
}

/** The filter in the form that the server takes: a value, a list of which one is enough, or a range. */
export function whereOf({ filters, ends }) {
  const wanted = new Map();
  for (const [field, end, value] of ends) wanted.set(field, { ...wanted.get(field), [end]: value });
  for (const [field] of filters) {
    const values = filters.filter(([name]) => name === field).map(([, value]) => value);
    wanted.set(field, values.length === 1 ? values[0] : values);
  }
  return Object.fromEntries(wanted);
}

/** Whether two states have the same results. */
export const resultsKey = state => address({ ...state, open: null });
export const hasQuery = state => Boolean(state.text || state.like || state.upload);
export const isSearch = state => hasQuery(state) || state.filters.length + state.ends.length > 0;
export const filterCount = state => state.filters.length + state.ends.length + (state.radius !== null);
export const withoutFilters = { filters: [], ends: [], radius: null };
export const uploadOf = state => uploads.get(state.upload) ?? null;

export function onChange(listener) {
  listeners.push(listener);
}

function changed() {
  for (const listener of listeners) listener(read());
}

/** Change the state. `replace`: without a step for Back. */
export function go(changes, { replace = false } = {}) {
  const next = { ...read(), ...changes };
  const kept = { opened: next.open !== null && (replace ? history.state?.opened : read().open === null) };
  history[replace ? "replaceState" : "pushState"](kept, "", address(next));
  changed();
}

/** Close what is open: a step back where opening it was a step forward. */
export function leave() {
  if (history.state?.opened) history.back();
  else go({ open: null }, { replace: true });
}

export function searchUpload(file) {
  const number = String(uploads.size + 1);
  uploads.set(number, file);
  go({ upload: number, like: null, text: null, open: null });
}

export function start() {
  history.scrollRestoration = "manual";
  addEventListener("popstate", changed);
  changed();
}
