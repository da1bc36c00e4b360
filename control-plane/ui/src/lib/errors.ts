// Errors as the server tells them: its sentence, and the details of google.rpc.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, QuotaFailureSchema } from "../gen/google/rpc/error_details_pb";

export interface Field {
  path: string;
  message: string;
  reason: string;
}

export interface Problem {
  message: string;
  code: string;
  reason: string;
  fields: Field[];
  metadata: Record<string, string>;
  signIn: boolean;
}

/** What is known of anything that was thrown. */
export function problem(thrown: unknown): Problem {
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const fields: Field[] = [];
  for (const bad of error.findDetails(BadRequestSchema)) {
    for (const one of bad.fieldViolations) fields.push({ path: one.field, message: one.description, reason: one.reason });
  }
  for (const failed of error.findDetails(PreconditionFailureSchema)) {
    for (const one of failed.violations) fields.push({ path: one.subject, message: one.description, reason: one.type });
  }
  for (const quota of error.findDetails(QuotaFailureSchema)) {
    for (const one of quota.violations) fields.push({ path: one.subject, message: one.description, reason: "" });
  }
  const lost = error.code === Code.Unknown && /fetch|network/i.test(error.rawMessage);
  return {
    message: lost ? "The control plane does not answer. Is it running?" : error.rawMessage,
    code: Code[error.code] ?? "Unknown",
    reason: info?.reason ?? "",
    fields,
    metadata: info ? { ...info.metadata } : {},
    signIn: error.code === Code.Unauthenticated,
  };
}

/** Whether a call was given up by the page itself. */
export function isCanceled(thrown: unknown): boolean {
  return ConnectError.from(thrown).code === Code.Canceled;
}
