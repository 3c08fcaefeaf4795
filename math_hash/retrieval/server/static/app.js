// The search page. The address is the state (state.js); the parts show what it says.

import * as api from "./api.js";
import { $, element, shown } from "./dom.js";
import * as filters from "./filters.js";
import "./keyboard.js";
import * as query from "./query.js";
import * as results from "./results.js";
import { go, isSearch, onChange, read, start } from "./state.js";
import * as viewer from "./viewer.js";

const SUGGESTIONS = 12;
let health = null;
let collection = { facets: [], examples: [], fold: null };

function render(state) {
  query.render(state);
  filters.render(state);
  const isFolding = state.duplicates ? state.duplicates === "fold" : collection.fold !== null;
  $("fold").checked = isFolding;
  $("welcome").hidden = isSearch(state);
  const fold = isFolding ? (collection.fold ?? 0) : null;
  if (isSearch(state)) results.show(state, { bytes: Math.ceil(health.k_bits / 8), fold });
  else results.showExamples(collection.examples);
  viewer.show(state.open);
}

function welcome() {
  const name = health.pictures ? "pictures" : "rows";
  $("summary").textContent = `${shown(health.rows)} ${name}, ${health.method}, ${health.k_bits} bits`;
  const ways = "Search them by words, by a picture, or by both; a picture can be chosen, pasted or dropped.";
  $("welcomeText").textContent = `${shown(health.rows)} ${name}. ${ways}`;
  const values = collection.facets.find(({ field, kind }) => /^labels?$/.test(field) && kind === "values")?.values ?? [];
  const words = values.map(({ value }) => String(value).replaceAll("_", " ")).slice(0, SUGGESTIONS);
  const chip = text => element("button", { type: "button", class: "chip", onclick: () => go({ text }) }, text);
  $("suggestions").replaceChildren(...words.map(text => element("li", {}, chip(text))));
  $("examplesTitle").hidden = !collection.examples.length;
}

/** Ask the server what it has, once it answers and knows the token; then show what the address says. */
async function begin() {
  $("error").hidden = true;
  results.say("Opening…");
  try {
    health = await api.health();
    $("tokenForm").hidden = !health.token;
    filters.setBits(health.k_bits);
    collection = await api.facets();
  } catch (error) {
    results.say("");
    results.fail(error, begin);
    return;
  }
  results.say("");
  filters.setFacets(collection.facets);
  welcome();
  onChange(render);
  start();
}

$("tokenForm").addEventListener("submit", event => {
  event.preventDefault();
  api.setToken($("token").value);
  location.reload();
});
begin();
