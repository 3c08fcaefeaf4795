// The dialog that shows one row: its picture, large, and all that is known of it.

import * as api from "./api.js";
import { $, element, labelField, labelsOf, nameOf, shown } from "./dom.js";
import { go, leave, read } from "./state.js";
import { loadMore, neighborOf, rowOf, searchLike, tileOf } from "./results.js";

const HIDDEN_FACTS = new Set(["text", "labels", "label", "image", "member"]); // shown in other ways
let row = null;

/** Open, change or close the dialog, as the state says. */
export async function show(id) {
  if (id === null) {
    row = null;
    if ($("viewer").open) $("viewer").close();
    return;
  }
  if (String(row?.id) === id && $("viewer").open) return;
  try {
    const known = rowOf(id) ?? (await api.row(id));
    if (read().open === id) fill(known);
  } catch (error) {
    if (read().open === id) fill({ id, metadata: {} }, error.message);
  }
  if (read().open === id && !$("viewer").open) $("viewer").showModal();
}

/** `problem`: why nothing is known of the row. */
function fill(known, problem) {
  row = known;
  const { metadata } = row;
  const id = String(row.id);
  $("viewerTitle").textContent = metadata.text || nameOf(row);
  $("viewerWithout").textContent = problem ?? "No picture can be shown here.";
  $("similar").disabled = problem !== undefined;
  showPicture(id, metadata);
  $("download").hidden = !metadata.image;
  $("viewerLabels").replaceChildren(...labelsOf(metadata).map(label => element("li", {}, labelChip(label))));
  fillPlace();
}

/** What follows from the row's place among the results, which may have come after it. */
function fillPlace() {
  const id = String(row.id);
  row = rowOf(id) ?? row;
  const { metadata } = row;
  const facts = [["id", row.id]];
  if (row.distance !== undefined && tileOf(id)?.querySelector(".distance")) facts.push(["distance", row.distance]);
  if (metadata.image && metadata.image !== row.id) facts.push(["image", metadata.image]);
  for (const fact of Object.entries(metadata)) if (!HIDDEN_FACTS.has(fact[0])) facts.push(fact);
  $("viewerFacts").replaceChildren(
    ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, written(value))]),
  );
  $("previous").disabled = !neighborOf(id, -1);
  $("next").disabled = !neighborOf(id, 1);
  if (rowOf(id) && !neighborOf(id, 3)) loadMore();
}

function written(value) {
  if (Array.isArray(value)) return value.map(written).join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : shown(value);
}

/** The thumbnail at once, if it is there; the large picture as soon as it has come. */
function showPicture(id, metadata) {
  const image = $("viewerPicture");
  const thumbnail = tileOf(id)?.querySelector("img");
  image.hidden = !metadata.image;
  $("viewerWithout").hidden = !image.hidden;
  image.alt = nameOf(row);
  if (!metadata.image) return;
  if (thumbnail?.naturalWidth) image.src = thumbnail.src;
  else image.removeAttribute("src");
  const large = new Image();
  large.addEventListener("load", () => {
    if (String(row?.id) === id) image.src = large.src;
  });
  large.addEventListener("error", () => {
    if (String(row?.id) !== id) return;
    image.hidden = true;
    $("viewerWithout").hidden = false;
  });
  api.showPicture(large, id, 1600);
}

function labelChip(label) {
  const name = labelField(row.metadata);
  const filter = () => {
    const { filters } = read();
    const others = filters.filter(([field, value]) => field !== name || value !== label);
    go({ filters: [...others, [name, label]], open: null });
  };
  const title = `Only results with ${label}`;
  return element("button", { type: "button", class: "chip", title, onclick: filter }, label);
}

/** Go to the row before or after. */
export function step(by) {
  const next = row && neighborOf(String(row.id), by);
  if (next) go({ open: String(next.id) }, { replace: true });
}

$("results").addEventListener("loaded", () => {
  if (row === null) return;
  const known = rowOf(String(row.id));
  if (known && $("similar").disabled) fill(known); // nothing was known of it before
  else fillPlace();
});
$("viewer").addEventListener("close", () => {
  if (row === null) return;
  tileOf(String(row.id))?.focus();
  leave();
});
$("viewer").addEventListener("click", event => {
  if (event.target === $("viewer")) $("viewer").close(); // beside it
});
$("close").addEventListener("click", () => $("viewer").close());
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("similar").addEventListener("click", () => searchLike(String(row.id)));
$("download").addEventListener("click", async () => {
  try {
    await api.download(String(row.id), row.metadata.image.split("/").at(-1));
  } catch (error) {
    $("viewerWithout").textContent = error.message;
    $("viewerWithout").hidden = false;
  }
});
