// Values as people read them.
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

const decoder = new TextDecoder("utf-8", { fatal: true });
const counts = new Intl.NumberFormat("en");

export function count(value: number | bigint): string {
  return counts.format(value);
}

export function plural(value: number | bigint, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 || value === 1n ? one : many}`;
}

export function bytes(value: number | bigint): string {
  const size = Number(value);
  if (size < 1024) return `${size} B`;
  if (size < 1024 * 1024) return `${(size / 1024).toFixed(1)} KiB`;
  if (size < 1024 ** 3) return `${(size / 1024 / 1024).toFixed(1)} MiB`;
  return `${(size / 1024 ** 3).toFixed(1)} GiB`;
}

export function millis(time: Timestamp | undefined): number | undefined {
  return time ? Number(time.seconds) * 1000 + time.nanos / 1e6 : undefined;
}

/** `2024-03-05 10:00:00`, in UTC. */
export function moment(time: Timestamp | number | undefined): string {
  const at = typeof time === "number" ? time : millis(time);
  if (at === undefined || Number.isNaN(new Date(at).getTime())) return "–";
  return new Date(at).toISOString().slice(0, 19).replace("T", " ");
}

export function duration(value: Duration | undefined): string {
  if (!value) return "–";
  return micros(Number(value.seconds) * 1e6 + value.nanos / 1000);
}

export function micros(value: number | bigint): string {
  const time = Number(value);
  if (time < 1000) return `${Math.round(time)} µs`;
  if (time < 1e6) return `${(time / 1000).toFixed(time < 10_000 ? 1 : 0)} ms`;
  return `${(time / 1e6).toFixed(1)} s`;
}

/** How far apart two moments in milliseconds are, in words: `3 days`. */
export function distance(from: number, to: number): string {
  const seconds = Math.abs(to - from) / 1000;
  const steps: [number, string][] = [
    [60, "second"],
    [60, "minute"],
    [24, "hour"],
    [365, "day"],
    [Infinity, "year"],
  ];
  let value = seconds;
  for (const [size, name] of steps) {
    // What lacks a moment to the next whole one is that.
    const whole = Math.floor(value + 0.02);
    if (whole < size) return plural(whole, name);
    value /= size;
  }
  return "";
}

export function ago(time: Timestamp | undefined): string {
  const at = millis(time);
  return at === undefined ? "–" : `${distance(at, Date.now())} ago`;
}

/** Bytes as text; `undefined` when they are none. */
export function text(value: Uint8Array): string | undefined {
  try {
    const decoded = decoder.decode(value);
    // Control characters beside white space tell of another kind of data.
    // eslint-disable-next-line no-control-regex
    return /[\u0000-\u0008\u000e-\u001f]/.test(decoded) ? undefined : decoded;
  } catch {
    return undefined;
  }
}

/** Bytes as hexadecimal digits, `limit` of them at the most. */
export function hex(value: Uint8Array, limit = 32): string {
  const shown = Array.from(value.slice(0, limit), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return value.length > limit ? `${shown}…` : shown;
}

/** JSON with indents; the text itself when it is no JSON. */
export function pretty(value: string): string {
  const trimmed = value.trimStart();
  if (!trimmed.startsWith("{") && !trimmed.startsWith("[")) return value;
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

/** Bytes for people: indented JSON, text, or hexadecimal digits. */
export function shown(value: Uint8Array): string {
  const decoded = text(value);
  return decoded === undefined ? `${bytes(value.length)} of binary data: ${hex(value, 64)}` : pretty(decoded);
}

/** What a token's `exp` means, with the recording's clock where it is known. */
export function expiry(exp: unknown, recorded: number | undefined, now = Date.now()): string {
  if (typeof exp !== "number") return "No expiry";
  const at = exp * 1000;
  const today = at < now ? `Expired ${distance(at, now)} ago` : `Expires in ${distance(now, at)}`;
  if (recorded === undefined) return today;
  const then = at < recorded ? `it had expired ${distance(at, recorded)} before` : `it was good for ${distance(recorded, at)}`;
  return `${today}; when it was recorded ${then}`;
}
