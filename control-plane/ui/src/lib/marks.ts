// Findings as marks in the text that they are about.
import { Severity, type Diagnostic } from "../gen/countersign/type/v1/type_pb";
import type { Field } from "./errors";
import type { Mark } from "./editor";
import { locate, saidLine } from "./json-lines";

const severities = { [Severity.UNSPECIFIED]: "error", [Severity.ERROR]: "error", [Severity.WARNING]: "warning", [Severity.INFO]: "info" } as const;

function spot(text: string, path: string, message: string, line: number): { from: number; to: number } {
  const said = path === "" ? saidLine(message, line) : undefined;
  if (said === undefined) return locate(text, path);
  const lines = text.split("\n");
  const from = lines.slice(0, said - 1).reduce((sum, one) => sum + one.length + 1, 0);
  return { from, to: from + (lines[said - 1]?.length ?? 0) };
}

export function marksOf(text: string, findings: Diagnostic[]): Mark[] {
  return findings.map((one) => ({
    ...spot(text, one.fieldPath, one.message, one.line),
    severity: severities[one.severity],
    message: one.hint ? `${one.message} (${one.hint})` : one.message,
  }));
}

export function marksOfFields(text: string, fields: Field[]): Mark[] {
  return fields.map((one) => ({ ...spot(text, one.path, one.message, 0), severity: "error", message: one.message }));
}
