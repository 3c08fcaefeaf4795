// The results: pages that are appended, near duplicates that are folded, and what is shown where there are none.

import * as api from "./api.js";
import { $, element, icon, labelsOf, nameOf, shown } from "./dom.js";
import { address, filterCount, go, hasQuery, read, resultsKey, uploadOf, whereOf, withoutFilters } from "./state.js";

const WITHOUT_IT = "Search without it";
const UNUSABLE = new Set([404, 413, 415]); // no such row, too large, no picture: another try ends alike
const KEPT = 8; // searches that Back shows again at once
const kept = new Map();
let current = null; // what is shown: { key, query, options, rows, isComplete, answer, scroll }
let loading = null; // aborts the request that is under way
let focusesFirst = false; // once results are there

export const rowOf = id => current?.rows.find(row => String(row.id) === id);

/** The row `step` places after the one with this id; undefined at the ends. */
export function neighborOf(id, step) {
  const place = current?.rows.findIndex(row => String(row.id) === id) ?? -1;
  return place < 0 ? undefined : current.rows[place + step];
}

/** Show the results of a state; what is shown already stays. `collection`: its k_bits, and radius to fold within. */
export function show(state, { bytes, fold }) {
  const key = `${resultsKey(state)} ${fold}`;
  if (current?.key === key) return;
  leaveCurrent();
  const isQuery = hasQuery(state);
  const query = isQuery ? { text: state.text, id: state.like, file: uploadOf(state) } : { code: "00".repeat(bytes) };
  if (state.upload && !query.file) {
    say("");
    fail(new Error("The picture that was searched with is gone; choose it again."), withoutPicture, WITHOUT_IT);
    return;
  }
  const options = { radius: isQuery ? state.radius : null, where: whereOf(state), fold };
  current = kept.get(key) ?? { key, isQuery, query, options, rows: [], isComplete: false, answer: null, scroll: 0 };
  kept.delete(key);
  kept.set(key, current);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  $("results").replaceChildren();
  if (current.answer) {
    append(current.rows);
    const reached = current.reached && tileOf(current.reached);
    if (reached) makeReachable(reached);
    if (reached && document.activeElement === document.body) reached.focus();
    scrollTo(0, current.scroll);
  } else {
    scrollTo(0, 0);
    load();
  }
}

const withoutPicture = () => go({ like: null, upload: null }, { replace: true });

/** Show rows that were not searched for. */
export function showExamples(rows) {
  if (current?.key === "examples") return;
  leaveCurrent();
  current = { key: "examples", rows, isComplete: true, isQuery: false, scroll: 0 };
  $("results").replaceChildren(...rows.map(tile));
  makeReachable();
  say("");
  scrollTo(0, 0);
}

function leaveCurrent() {
  if (current) {
    current.scroll = scrollY;
    current.reached = $("results").querySelector('.tile[tabindex="0"]')?.dataset.id;
  }
  loading?.abort();
  current = null;
  for (const id of ["error", "note", "nothing", "more"]) $(id).hidden = true;
  $("results").replaceChildren();
  $("results").removeAttribute("aria-busy");
}

/** Load the next page of what is shown. */
async function load() {
  const search = current;
  loading?.abort();
  const controller = (loading = new AbortController());
  $("error").hidden = $("more").hidden = true;
  $("results").setAttribute("aria-busy", "true");
  if (!search.rows.length) {
    say("Searching…");
    $("results").replaceChildren(
      ...Array.from({ length: 12 }, () => element("li", { class: "skeleton", "aria-hidden": "true" })),
    );
  }
  try {
    const answer = await api.search(search.query, search.options, search.rows.length, controller.signal);
    if (!search.rows.length) $("results").replaceChildren();
    search.answer ??= answer;
    search.rows.push(...answer.results);
    search.isComplete = answer.results.length < api.PAGE || search.rows.length >= api.LAST_OFFSET;
    append(answer.results);
    if (focusesFirst) tiles()[0]?.focus();
    focusesFirst = false;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!search.rows.length) $("results").replaceChildren();
    say("");
    if (UNUSABLE.has(error.status)) fail(error, withoutPicture, WITHOUT_IT);
    else fail(error, load);
  }
  $("results").removeAttribute("aria-busy");
  loading = null;
}

function append(rows) {
  const { answer, isComplete } = current;
  for (const row of rows) {
    const made = tile(row);
    if (row.duplicate_of === null || !fold(made, String(row.duplicate_of))) $("results").append(made);
  }
  makeReachable();
  $("note").hidden = !answer.notes.length;
  $("note").textContent = answer.notes.map(note => note[0].toUpperCase() + note.slice(1)).join(". ") + ".";
  $("nothing").hidden = current.rows.length > 0;
  if (!current.rows.length) sayNothing();
  $("more").hidden = isComplete;
  sayCount();
  watched.disconnect();
  if (!isComplete) watched.observe($("more"));
  $("results").dispatchEvent(new Event("loaded"));
}

/** Load the next page, unless there is none or it is on its way. */
export function loadMore() {
  if (current && !current.isComplete && !loading) load();
}

function sayCount() {
  const { rows, isComplete, isQuery, answer } = current;
  const count = `${shown(rows.length)}${isComplete ? "" : "+"} ${rows.length === 1 ? "result" : "results"}`;
  const folded = rows.filter(row => row.duplicate_of !== null).length;
  const parts = [count, folded ? `${shown(folded)} of them folded` : "", isQuery ? "" : "in no particular order"];
  say([...parts, `${Math.max(1, Math.round(answer.seconds * 1000))} ms`].filter(Boolean).join(", "));
}

export function say(text) {
  $("status").textContent = text;
}

/** Show an error, and a button for what can be done about it. */
export function fail(error, remedy, words = "Try again") {
  const button = remedy && element("button", { type: "button", class: "quiet", onclick: remedy }, words);
  $("error").replaceChildren(element("p", {}, error.message), button ?? "");
  $("error").hidden = false;
  if (error.status === 401) {
    $("filters").open = true;
    $("token").focus();
  }
}

function sayNothing() {
  const state = read();
  const clear = () => go(withoutFilters);
  const button = element("button", { type: "button", class: "quiet", onclick: clear }, "Search without filters");
  const why = filterCount(state) ? "Nothing passes these filters." : "There is nothing in this collection.";
  $("nothing").replaceChildren(element("p", {}, why), filterCount(state) ? button : "");
}

function tile(row) {
  const id = String(row.id);
  const labels = labelsOf(row.metadata).join(", ");
  const words = row.metadata.text || (labels ? "" : row.metadata.image || id);
  const caption = element(
    "span",
    { class: "caption" },
    labels && element("span", { class: "labels" }, labels),
    words && element("span", { class: "words" }, words),
    current.isQuery ? element("span", { class: "distance" }, `distance ${row.distance}`) : null,
  );
  const link = element("a", { class: "tile", href: address({ ...read(), open: id }), tabindex: "-1", "data-id": id });
  link.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window
    event.preventDefault();
    go({ open: id });
  });
  if (row.metadata.image) {
    const image = element("img", { alt: "", width: 320, height: 320 }); // the caption says what it is
    let isSecond = false; // the server may have been too busy
    image.addEventListener("error", () => {
      if (isSecond) image.remove();
      else setTimeout(() => api.showPicture(image, id, 320), 1500);
      isSecond = true;
    });
    whenNear(image, () => api.showPicture(image, id, 320));
    link.append(image);
  }
  link.append(caption);
  const name = `Find similar to ${nameOf(row)}`;
  const similar = { type: "button", class: "likeThis", title: "Find similar", "aria-label": name, tabindex: "-1" };
  return element("li", {}, link, element("button", { ...similar, onclick: () => searchLike(id) }, icon("similar")));
}

export function searchLike(id) {
  focusesFirst = true;
  go({ like: id, text: null, upload: null, open: null });
}

/** Put a near duplicate behind the result that it is one of, out of sight. Whether that result is there. */
function fold(item, firstId) {
  const first = tileOf(firstId)?.parentElement;
  if (!first) return false;
  item.className = "duplicate";
  const button = first.querySelector(".folded") ?? foldButton(first);
  const before = [first, ...duplicatesOf(first)].at(-1);
  before.after(item);
  item.hidden = button.getAttribute("aria-expanded") === "false";
  const count = duplicatesOf(first).length;
  button.textContent = `+${count}`;
  button.title = `${count} near ${count === 1 ? "duplicate" : "duplicates"}`;
  button.setAttribute("aria-label", `${button.title} of ${nameOf(rowOf(firstId))}`);
  return true;
}

function foldButton(first) {
  const button = element("button", { type: "button", class: "folded", "aria-expanded": "false" });
  button.addEventListener("click", () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    for (const item of duplicatesOf(first)) item.hidden = isOpen;
  });
  first.append(button);
  return button;
}

function duplicatesOf(first) {
  const found = [];
  for (let item = first.nextElementSibling; item?.className === "duplicate"; item = item.nextElementSibling) {
    found.push(item);
  }
  return found;
}

export const tiles = () => [...$("results").querySelectorAll("li:not([hidden]) > .tile")];
export const tileOf = id => [...$("results").querySelectorAll(".tile")].find(link => link.dataset.id === id);

/** One tile is reached by Tab, the others by arrow keys. */
export function makeReachable(link = $("results").querySelector('.tile[tabindex="0"]') ?? tiles()[0]) {
  for (const other of $("results").querySelectorAll('.tile[tabindex="0"]')) other.tabIndex = -1;
  if (link) link.tabIndex = 0;
}

const pending = new WeakMap();
const near = new IntersectionObserver(
  entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      pending.get(target)();
    }
  },
  { rootMargin: "400px" },
);

/** Call back when the element is about to be seen. */
function whenNear(target, callback) {
  pending.set(target, callback);
  near.observe(target);
}

const watched = new IntersectionObserver(([entry]) => entry.isIntersecting && loadMore(), { rootMargin: "600px" });
$("more").addEventListener("click", load);
$("results").addEventListener("focusin", event => {
  if (event.target.matches(".tile")) makeReachable(event.target);
});
