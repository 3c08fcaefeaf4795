// Keys, as the dialog "Keys" lists them.

import { $ } from "./dom.js";
import { searchLike, tiles } from "./results.js";
import { step } from "./viewer.js";

/** The tile that is reached from another one by a key; undefined where there is none. */
function target(all, from, key) {
  const place = all.indexOf(from);
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  if (key === "ArrowLeft") return all[place - 1];
  if (key === "ArrowRight") return all[place + 1];
  const { left } = from.getBoundingClientRect();
  const column = all.filter(tile => Math.abs(tile.getBoundingClientRect().left - left) < 2);
  const next = column[column.indexOf(from) + (key === "ArrowDown" ? 1 : -1)];
  // the last row may be shorter
  return next ?? (key === "ArrowDown" && from.offsetParent && isAboveLast(all, from) ? all.at(-1) : undefined);
}

const isAboveLast = (all, from) => all.at(-1).getBoundingClientRect().top > from.getBoundingClientRect().bottom;
const MOVES = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"]);

function inResults(event) {
  const tile = event.target.closest("#results .tile");
  if (tile && MOVES.has(event.key)) {
    const next = target(tiles(), tile, event.key);
    if (next) next.focus();
    else if (event.key === "ArrowUp") $("text").focus();
    return true;
  }
  if (tile && event.key === "s") {
    searchLike(tile.dataset.id);
    return true;
  }
  return false;
}

function inViewer(event) {
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "s") $("similar").click();
  else return false;
  return true;
}

function inPage(event) {
  if (event.key === "/") {
    $("text").focus();
    $("text").select();
  } else if (event.key === "?") $("keys").showModal();
  else return false;
  return true;
}

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === $("text")) {
    if (event.key === "ArrowDown" && tiles().length) {
      event.preventDefault();
      tiles()[0].focus();
    }
    return;
  }
  if (event.target.matches("input, textarea, select")) return;
  const isHandled = $("viewer").open ? inViewer(event) : !$("keys").open && (inResults(event) || inPage(event));
  if (isHandled) event.preventDefault();
});
$("showKeys").addEventListener("click", () => $("keys").showModal());
