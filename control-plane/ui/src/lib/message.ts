// Requests and responses as text.
import type { Header, HttpRequest, HttpResponse } from "../gen/countersign/snapshot/v1/rrpair_pb";
import { shown, text } from "./format";

export function headerText(header: Header): string {
  return text(header.value) ?? shown(header.value);
}

export function startLine(message: HttpRequest | HttpResponse): string {
  if ("status" in message) return `HTTP ${message.statusMessage || message.status}`;
  return `${message.method} ${message.path}${message.query ? `?${message.query}` : ""}`;
}

/** The whole of a message, for comparisons. */
export function asText(message: HttpRequest | HttpResponse | undefined): string {
  if (!message) return "";
  const headers = message.headers.map((header) => `${header.name}: ${headerText(header)}`);
  return [startLine(message), ...headers, "", shown(message.body)].join("\n");
}
