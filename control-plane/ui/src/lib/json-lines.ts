// Where in a JSON text a field stands: `responder[0].transforms[1].config.secretPath` → the line. Names are compared as the engine does, without case.

export interface Spot {
  /** Offset of the value, or of the nearest thing around it. */
  from: number;
  to: number;
  /** From 1. */
  line: number;
}

function split(path: string): (string | number)[] {
  const parts: (string | number)[] = [];
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    parts.push(index === undefined ? (name ?? "") : Number(index));
  }
  return parts;
}

class Walker {
  private at = 0;
  constructor(private readonly text: string) {}

  /** The span of the value at the path, or of the innermost value on the way to it. */
  find(parts: (string | number)[]): [number, number] {
    this.space();
    return this.value(parts) ?? [0, 0];
  }

  private space(): void {
    while (this.at < this.text.length && /\s/.test(this.text.charAt(this.at))) this.at += 1;
  }

  private value(parts: (string | number)[] | undefined): [number, number] | undefined {
    this.space();
    const begin = this.at;
    const head = this.text.charAt(this.at);
    let inner: [number, number] | undefined;
    if (head === "{" || head === "[") {
      this.at += 1;
      for (let index = 0; this.at < this.text.length; index += 1) {
        this.space();
        const next = this.text.charAt(this.at);
        if (next === "}" || next === "]") break;
        if (next === ",") {
          this.at += 1;
          index -= 1;
          continue;
        }
        const start = this.at;
        let key: string | number = index;
        if (head === "{") {
          const name = this.string();
          if (name === undefined) return inner ?? [begin, this.at];
          key = name;
          this.space();
          if (this.text.charAt(this.at) === ":") this.at += 1;
        }
        const wanted = parts?.[0];
        const here = wanted !== undefined && (typeof key === "number" ? key === wanted : key.toLowerCase() === String(wanted).toLowerCase());
        const before = this.at;
        const found = this.value(here ? parts?.slice(1) : undefined);
        if (here && inner === undefined) inner = parts?.length === 1 ? [start, this.at] : found;
        if (this.at === before) return inner ?? [begin, this.at];
      }
      this.at += 1;
    } else if (head === '"') {
      this.string();
    } else {
      while (this.at < this.text.length && !/[\s,\]}]/.test(this.text.charAt(this.at))) this.at += 1;
    }
    return parts === undefined ? undefined : (inner ?? [begin, parts.length === 0 ? this.at : begin + 1]);
  }

  private string(): string | undefined {
    if (this.text.charAt(this.at) !== '"') return undefined;
    const begin = this.at;
    this.at += 1;
    while (this.at < this.text.length && this.text.charAt(this.at) !== '"') this.at += this.text.charAt(this.at) === "\\" ? 2 : 1;
    this.at += 1;
    try {
      return String(JSON.parse(this.text.slice(begin, this.at)));
    } catch {
      return undefined;
    }
  }
}

export function lineOf(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
}

/** Where the field of a finding stands. */
export function locate(text: string, path: string): Spot {
  const parts = split(path);
  const [from, to] = parts.length === 0 ? [0, 0] : new Walker(text).find(parts);
  return { from, to: Math.max(from, Math.min(to, text.length)), line: lineOf(text, from) };
}

/** The line that a finding names itself (`… at line 3 column 5`), as for text that is no JSON. */
export function saidLine(message: string, line: number): number | undefined {
  if (line > 0) return line;
  const said = /\bline (\d+) column \d+/.exec(message);
  return said ? Number(said[1]) : undefined;
}
