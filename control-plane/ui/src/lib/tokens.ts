// Tokens within text, opened, so that what differs in them can be seen.

const TOKEN = /"?ey[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"?/g;

function part(encoded: string): Record<string, unknown> | undefined {
  try {
    const padded = encoded.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(padded), (letter) => letter.charCodeAt(0));
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The text with each token as its JOSE header and claims, a line each. */
export function openTokens(text: string): string {
  return text.replace(TOKEN, (token) => {
    const [header = "", claims = ""] = token.replaceAll('"', "").split(".");
    const [opened, payload] = [part(header), part(claims)];
    if (!opened?.["alg"] || !payload) return token;
    const lines = Object.entries(payload).map(([name, value]) => `      ${name}: ${JSON.stringify(value)}`);
    return [`JWT ${JSON.stringify(opened)}`, ...lines].join("\n");
  });
}
