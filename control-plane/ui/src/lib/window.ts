// Which rows of a long list are in sight. Browsers do not draw elements of tens of millions of pixels, so a very long list scrolls faster than its rows are
// high.

const TALLEST = 8_000_000;

export class Window {
  readonly height: number;
  /** How many rows are drawn: those in sight and a few more. */
  readonly rows: number;
  private readonly visible: number;

  constructor(
    private readonly length: number,
    private readonly row: number,
    private readonly sight: number,
  ) {
    this.visible = Math.ceil(sight / row);
    this.rows = this.visible + 4;
    this.height = Math.min(length * row, TALLEST);
  }

  /** The first row that is drawn when so many pixels are scrolled away. */
  first(top: number): number {
    return Math.max(0, Math.min(Math.floor(this.exact(top)), this.length - this.visible));
  }

  /** Where the first row is drawn. */
  offset(top: number): number {
    const scaled = this.length * this.row > TALLEST;
    if (!scaled) return this.first(top) * this.row;
    const end = this.first(top) >= this.length - this.visible;
    return end ? this.height - Math.min(this.visible, this.length) * this.row : top;
  }

  private exact(top: number): number {
    if (this.length * this.row <= TALLEST) return top / this.row;
    const room = Math.max(1, this.height - this.sight);
    return (Math.min(top, room) / room) * (this.length - this.visible);
  }
}

/** Text that is no query looks for itself in URLs. */
export function asQuery(typed: string): string {
  const text = typed.trim();
  if (text === "" || /^[({[]/.test(text) || /^\w+(\[[^\]]*\])?\s+(NOT\s+)?(IS|NOT|CONTAINS|REGEX)\s/.test(text)) return text;
  return `(url CONTAINS "${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}")`;
}
