// A transform template as the editor works on it: the user's own JSON, of which only what is edited changes.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

export interface Element {
  type: string;
  config?: Record<string, string>;
}

export interface Chain {
  filters?: JsonObject | Json[];
  extractor: Element;
  transforms: Element[];
}

export interface Variable {
  name: string;
  config: { extractor: Element; transforms: Element[] };
}

export interface Template {
  id: string;
  generator?: Chain[];
  responder?: Chain[];
  generatorVariables?: Variable[];
  responderVariables?: Variable[];
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads a template; `undefined` when the text is no JSON object. */
export function parseTemplate(text: string): Template | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? (value as unknown as Template) : undefined;
  } catch {
    return undefined;
  }
}

export function print(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** What selects every pair, as the incumbent writes it. */
export function everything(): JsonObject {
  return { filters: [{ include: true }] };
}

/** One condition of a chain, as the filter builder shows it. */
export interface Condition {
  include: boolean;
  operator: "EQUAL" | "CONTAINS" | "REGEX";
  criterion: string;
  key: string;
  value: string;
}

const MEMBERS = new Set(["include", "operator"]);

/** The conditions of a chain when the builder can show them: a flat list that has to hold altogether. */
export function conditions(filters: Chain["filters"], keyed: Set<string>): Condition[] | undefined {
  if (filters === undefined) return [];
  if (!isObject(filters) || Object.keys(filters).some((name) => name !== "filters")) return undefined;
  const list = filters["filters"] ?? [];
  if (!Array.isArray(list)) return undefined;
  const found: Condition[] = [];
  for (const one of list) {
    if (!isObject(one)) return undefined;
    const criteria = Object.keys(one).filter((name) => !MEMBERS.has(name));
    const operator = typeof one["operator"] === "string" ? one["operator"].toUpperCase() : "EQUAL";
    if (criteria.length === 0 && one["include"] !== false) continue;
    const criterion = criteria[0];
    if (criteria.length !== 1 || criterion === undefined || !["EQUAL", "CONTAINS", "REGEX"].includes(operator)) return undefined;
    const value = one[criterion];
    const plain = { include: one["include"] !== false, operator: operator as Condition["operator"], criterion };
    if (typeof value === "string") found.push({ ...plain, key: "", value });
    else if (keyed.has(criterion) && isObject(value) && typeof value["key"] === "string") {
      found.push({ ...plain, key: value["key"], value: typeof value["value"] === "string" ? value["value"] : "" });
    } else return undefined;
  }
  return found;
}

/** The filters that say these conditions. */
export function filtersOf(list: Condition[], keyed: Set<string>): JsonObject {
  if (list.length === 0) return everything();
  const one = (condition: Condition): JsonObject => ({
    include: condition.include,
    ...(condition.operator === "EQUAL" ? {} : { operator: condition.operator }),
    [condition.criterion]: keyed.has(condition.criterion)
      ? { key: condition.key, ...(condition.value === "" ? {} : { value: condition.value }) }
      : condition.value,
  });
  return { filters: list.map(one) };
}

/** Conditions in words. */
export function inWords(filters: Chain["filters"], keyed: Set<string>): string {
  const list = conditions(filters, keyed);
  if (list === undefined) return "a rule set, shown under Advanced";
  if (list.length === 0) return "every pair";
  const verb = { EQUAL: ["is", "is not"], CONTAINS: ["contains", "does not contain"], REGEX: ["matches", "does not match"] };
  return list
    .map((one) => `${nameOfCriterion(one.criterion)}${one.key ? ` ${one.key}` : ""} ${verb[one.operator][one.include ? 0 : 1]} ${one.value}`)
    .join(" and ");
}

export function nameOfCriterion(criterion: string): string {
  return criterion
    .replace(/^detected/, "")
    .replace(/([A-Z])/g, " $1")
    .replaceAll("_", " ")
    .trim()
    .toLowerCase();
}

/** Where a chain finds a token, from the place that the token report names; `undefined` for places that take more than one step. */
export function chainFor(place: string): { extractor: Element; steps: Element[] } | undefined {
  const body = /^body ([^→]+)$/.exec(place)?.[1];
  if (body) return { extractor: { type: "http_res_body" }, steps: [{ type: "json_path", config: { path: body } }] };
  const header = /^header ([^\s]+)(?: [A-Za-z]+)?$/.exec(place)?.[1];
  if (header) return { extractor: { type: "http_res_header", config: { name: header } }, steps: [] };
  const cookie = /^cookie ([^\s]+)$/.exec(place)?.[1];
  if (cookie) return { extractor: { type: "http_res_cookie", config: { name: cookie } }, steps: [] };
  return undefined;
}

/** Makes a path of a secret, from `secret/key`, the usual path, or a placeholder; `undefined` when it names none. */
export function secretOf(path: string): { secret: string; key: string } | undefined {
  const inner = /^\$\{\{\s*secret:([^}]+)\}\}$/.exec(path.trim())?.[1] ?? path.trim();
  const parts = inner.replace(/^\/home\/speedscale\/secret\//, "").split("/");
  const [secret = "", key = ""] = parts;
  const sound = (part: string) => /^[A-Za-z0-9]([A-Za-z0-9._-]*)$/.test(part);
  return parts.length === 2 && sound(secret) && sound(key) ? { secret, key } : undefined;
}
