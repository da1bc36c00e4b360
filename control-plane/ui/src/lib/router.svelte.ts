// Where the page is: `#/part/part?key=value`. Every place can be linked to.

export interface Place {
  parts: string[];
  query: URLSearchParams;
}

export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  const parts = path
    .split("/")
    .filter((part) => part !== "")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
  return { parts, query: new URLSearchParams(query) };
}

/** The link to a place. Empty values are left out. */
export function link(parts: (string | number | bigint)[], query: Record<string, string | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value) search.set(key, value);
  const tail = search.toString();
  return `#/${parts.map((part) => encodeURIComponent(String(part))).join("/")}${tail ? `?${tail}` : ""}`;
}

class Router {
  place = $state<Place>(parsePlace(typeof location === "undefined" ? "" : location.hash));
  /** Asked before the page goes elsewhere; a text is what would be lost. */
  guard: (() => string | undefined) | undefined = undefined;

  start(): void {
    let last = location.hash;
    addEventListener("hashchange", () => {
      if (location.hash === last) return;
      const next = parsePlace(location.hash);
      const stays = next.parts[0] === this.place.parts[0] && next.parts[1] === this.place.parts[1];
      const lost = stays ? undefined : this.guard?.();
      if (lost && !confirm(lost)) {
        history.replaceState(null, "", last);
        return;
      }
      last = location.hash;
      this.place = next;
    });
    addEventListener("beforeunload", (event) => {
      if (this.guard?.()) event.preventDefault();
    });
  }

  go(to: string): void {
    location.hash = to;
  }

  /** Changes the query without a step in the history. */
  replace(to: string): void {
    history.replaceState(null, "", to);
    this.place = parsePlace(to);
  }
}

export const router = new Router();
