// Whether the server asks who is there.
import { session } from "./rpc";

class Access {
  asked = $state(false);
  /** Grows when somebody signs in, so that what is shown is fetched anew. */
  turn = $state(0);

  ask(): void {
    this.asked = true;
  }

  enter(token: string): void {
    session.token = token;
    this.asked = false;
    this.turn += 1;
  }
}

export const access = new Access();
