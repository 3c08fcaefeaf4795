// What is searched for: words, and a picture that is chosen, photographed, pasted or dropped.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { fail } from "./results.js";
import { go, read, searchUpload, uploadOf } from "./state.js";

const LARGE = 1_000_000; // bytes, above which a picture is scaled down before it is sent
const SIDE = 1024; // pixels; more than any encoder looks at

/** Show what the state searches for in the box. */
export function render(state) {
  if (document.activeElement !== $("text") || state.text !== null) $("text").value = state.text ?? "";
  const file = uploadOf(state);
  $("chosen").hidden = state.like === null && !file;
  $("text").placeholder = $("chosen").hidden ? "Describe what you are looking for" : "Add words: at night";
  document.title = [state.text, file?.name ?? state.like].filter(Boolean).join(" + ") || "Search";
  document.title += " - math_hash";
  const image = $("chosenPicture");
  image.hidden = false;
  $("chosenName").textContent = file ? file.name : (state.like ?? "").split("/").at(-1);
  if (file) {
    image.src = URL.createObjectURL(file);
    image.decode().catch(() => (image.hidden = true)).finally(() => URL.revokeObjectURL(image.src));
  } else if (state.like !== null) api.showPicture(image, state.like, 96);
}

async function searchPicture(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    fail(new Error(`${file.name} is no picture.`), null);
    return;
  }
  searchUpload(file.size > LARGE ? await scaled(file) : file);
}

/** A smaller copy of a photograph; the photograph itself where the browser cannot read it. */
async function scaled(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // below what is transparent, as the server does
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
    return new File([blob], file.name, { type: blob.type });
  } catch {
    return file;
  }
}

$("form").addEventListener("submit", event => {
  event.preventDefault();
  const text = $("text").value.trim() || null;
  if (text || read().text) go({ text, open: null });
});
$("dropPicture").addEventListener("click", () => {
  go({ like: null, upload: null });
  $("text").focus();
});
$("chosenPicture").addEventListener("error", () => ($("chosenPicture").hidden = true));
for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", () => {
    searchPicture($(id).files[0]);
    $(id).value = ""; // so that the same picture can be chosen again
  });
}
$("home").addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ text: null, like: null, upload: null, filters: [], ends: [], radius: null, open: null });
});

let inside = 0; // elements that the pointer has entered while dragging
const isFile = event => [...(event.dataTransfer?.types ?? [])].includes("Files");
const setInside = value => {
  inside = Math.max(0, value);
  document.body.classList.toggle("drop", inside > 0);
};
addEventListener("dragenter", event => isFile(event) && setInside(inside + 1));
addEventListener("dragleave", event => isFile(event) && setInside(inside - 1));
addEventListener("dragover", event => isFile(event) && event.preventDefault());
addEventListener("drop", event => {
  if (!isFile(event)) return;
  event.preventDefault();
  setInside(0);
  searchPicture(event.dataTransfer.files[0]);
});
addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) searchPicture(file);
});
