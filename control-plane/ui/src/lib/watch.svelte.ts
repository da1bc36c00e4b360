// A stream of states that goes on for as long as the screen is there: reopened after a while when it breaks.
import { Code, ConnectError } from "@connectrpc/connect";
import { problem, type Problem } from "./errors";

const PAUSES = [500, 1000, 2000, 5000];

export class Watch<T> {
  value = $state.raw<T | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  /** The server does not know the call. */
  missing = $state(false);

  /** Begins; what is returned ends it. */
  start(open: (signal: AbortSignal) => AsyncIterable<T>): () => void {
    const control = new AbortController();
    void this.run(open, control.signal);
    return () => control.abort();
  }

  private async run(open: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        for await (const value of open(signal)) {
          this.value = value;
          this.problem = undefined;
          failures = 0;
        }
      } catch (thrown) {
        if (signal.aborted) return;
        const { code } = ConnectError.from(thrown);
        if (code === Code.Unimplemented) {
          this.missing = true;
          return;
        }
        this.problem = problem(thrown);
        if (code === Code.NotFound || code === Code.PermissionDenied || code === Code.Unauthenticated) return;
      }
      const pause = PAUSES[Math.min(failures, PAUSES.length - 1)];
      failures += 1;
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}
