// Something that is fetched: what it is, or why not, and whether it is on its way.
import { isCanceled, problem, type Problem } from "./errors";

export class Load<T> {
  value = $state.raw<T | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  busy = $state(false);
  private turn = 0;

  /** Fetches; of several at a time the last one counts. */
  async run(fetch: () => Promise<T>): Promise<T | undefined> {
    const turn = (this.turn += 1);
    this.busy = true;
    try {
      const value = await fetch();
      if (turn !== this.turn) return undefined;
      this.value = value;
      this.problem = undefined;
      return value;
    } catch (thrown) {
      if (turn === this.turn && !isCanceled(thrown)) this.problem = problem(thrown);
      return undefined;
    } finally {
      if (turn === this.turn) this.busy = false;
    }
  }
}
