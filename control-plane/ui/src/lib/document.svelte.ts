// A document that is edited: its text, what was stored, and what becomes of saving it.
import { problem, type Problem } from "./errors";

export interface Stored {
  text: string;
  etag: string;
}

export class Document {
  text = $state("");
  saved = $state("");
  etag = $state("");
  exists = $state(false);
  saving = $state(false);
  problem = $state.raw<Problem | undefined>(undefined);
  /** What somebody else has stored meanwhile. */
  theirs = $state.raw<Stored | undefined>(undefined);
  note = $state("");

  get dirty(): boolean {
    return this.text !== this.saved;
  }

  open(stored: Stored): void {
    [this.text, this.saved, this.etag, this.exists] = [stored.text, stored.text, stored.etag, true];
    [this.theirs, this.problem, this.note] = [undefined, undefined, ""];
  }

  begin(text: string): void {
    [this.text, this.saved, this.etag, this.exists] = [text, "", "", false];
  }

  /** Stores it; when somebody else was faster, fetches what they have stored. */
  async save(store: (text: string, etag: string) => Promise<Stored>, fetch: () => Promise<Stored>): Promise<boolean> {
    this.saving = true;
    this.note = "";
    this.problem = undefined;
    const text = this.text;
    try {
      const stored = await store(text, this.etag);
      [this.saved, this.etag, this.exists, this.theirs] = [text, stored.etag, true, undefined];
      this.note = "Saved";
      return true;
    } catch (thrown) {
      const why = problem(thrown);
      if (why.reason === "ETAG_MISMATCH" || why.reason === "ALREADY_EXISTS") {
        try {
          this.theirs = await fetch();
          return false;
        } catch {
          // What was refused is told instead.
        }
      }
      this.problem = why;
      return false;
    } finally {
      this.saving = false;
    }
  }
}
