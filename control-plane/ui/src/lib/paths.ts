// Members of a JSON document by their path; only what is on the way is copied.
import { isObject, type Json, type JsonObject } from "./template";

export function get(document: JsonObject, path: string): Json | undefined {
  let at: Json | undefined = document;
  for (const name of path.split(".")) at = isObject(at) ? at[name] : undefined;
  return at;
}

/** Sets a member; `undefined` takes it out, and with it the objects that it leaves empty, but for the outermost. */
export function set(document: JsonObject, path: string, value: Json | undefined): JsonObject {
  const [name = "", ...rest] = path.split(".");
  const inner = rest.length === 0 ? value : set(isObject(document[name]) ? document[name] : {}, rest.join("."), value);
  const next = { ...document };
  if (inner === undefined || (value === undefined && isObject(inner) && Object.keys(inner).length === 0)) delete next[name];
  else next[name] = inner;
  return next;
}

/** A member as text for a form. */
export function asText(document: JsonObject, path: string): string {
  const value = get(document, path);
  return value === undefined || value === null || typeof value === "object" ? "" : String(value);
}

/** Text of a form as JSON: numbers and booleans become such. */
export function fromText(text: string, kind: "text" | "number"): Json | undefined {
  if (text.trim() === "") return undefined;
  return kind === "number" && Number.isFinite(Number(text)) ? Number(text) : text;
}
