// The server's JSON interface.

let token = sessionStorage.getItem("token") ?? "";

export const PAGE = 48; // results per request
export const LAST_OFFSET = 10000;
const MOST_PICTURES = 1000; // that are kept in memory

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  const { detail } = await answer.json().catch(() => ({}));
  const reason = Array.isArray(detail) ? detail.map(({ loc, msg }) => `${loc.slice(1).join(" ")}: ${msg}`)[0] : detail;
  throw new ServerError(answer.status, reason ?? `The server answered with status ${answer.status}.`);
}

const json = async (path, options) => (await request(path, options)).json();

export const health = () => json("health");
export const facets = () => json("facets");
export const row = id => json(`rows?${new URLSearchParams({ id })}`);

/**
 * A page of results.
 * query: a code alone, or text, id and file, those that are there. options: radius, where and fold, or null.
 */
export function search({ code, text, id, file }, { radius, where, fold }, offset, signal) {
  const chosen = { top_k: PAGE, offset, ...(radius !== null && { radius }), ...(fold !== null && { fold }) };
  if (!file && !(text && id)) {
    const [kind, value] = code ? ["code", code] : id ? ["id", id] : ["text", text];
    const body = JSON.stringify({ [kind]: value, ...chosen, where });
    const headers = { "Content-Type": "application/json" };
    return json(`search/${kind}`, { method: "POST", body, headers, signal });
  }
  const body = new FormData();
  for (const [name, value] of Object.entries({ text, id, file })) if (value) body.append(name, value);
  const route = text || id ? "combined" : "image";
  const parameters = new URLSearchParams({ ...chosen, where: JSON.stringify(where) });
  return json(`search/${route}?${parameters}`, { method: "POST", body, signal });
}

const pictureAddress = (id, size) => `image?${new URLSearchParams({ id, size })}`;

/** Show a row's picture in an image element. With a token, which no address may carry, it is fetched first. */
export async function showPicture(image, id, size) {
  const address = pictureAddress(id, size);
  image.dataset.wanted = address;
  try {
    const source = token ? await fetched(address) : address;
    if (image.dataset.wanted === address) image.src = source;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

const pictures = new Map();

async function fetched(address) {
  if (!pictures.has(address)) pictures.set(address, URL.createObjectURL(await (await request(address)).blob()));
  if (pictures.size > MOST_PICTURES) {
    const [oldest, source] = pictures.entries().next().value;
    URL.revokeObjectURL(source);
    pictures.delete(oldest);
  }
  return pictures.get(address);
}

/** Save the file of a row's picture. */
export async function download(id, name) {
  const content = await (await request(`image/file?${new URLSearchParams({ id })}`)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
