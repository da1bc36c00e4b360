//! Problems, and the one place where they become a [`Status`].
//!
//! Each carries `google.rpc` details: an `ErrorInfo` always, and field violations, the resource's name or the failed precondition as fits.

use std::{collections::HashMap, time::Duration};

use countersign_engine::{
    diagnostic::{Diagnostic, Severity},
    snapshot::digest::Digest,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::wire;
use crate::{
    content::ContentError,
    import::{ImportError, staging::StagingError},
    store::{CommitError, Kind, Record, StoreError},
};

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// A field of the request is not acceptable.
    #[error("{field}: {message}")]
    Field { field: String, reason: &'static str, message: String },
    /// A user's document is refused, with every finding.
    #[error("{what} is refused: {}", summary(findings))]
    Document { what: &'static str, reason: &'static str, findings: Vec<Diagnostic> },
    /// A user's document cannot be used with what is stored, with every finding.
    #[error("{what}: {}", summary(findings))]
    Unusable { what: String, reason: &'static str, findings: Vec<Diagnostic> },
    /// The resource does not exist.
    #[error("there is no {kind} {name}")]
    NotFound { kind: Kind, name: String },
    /// The resource exists already.
    #[error("{kind} {name} exists already")]
    Exists { kind: Kind, name: String },
    /// The state of a resource does not allow it.
    #[error("{message}")]
    State { reason: &'static str, subject: String, message: String },
    /// The caller may not have it.
    #[error("{message}")]
    Denied { reason: &'static str, message: String },
    /// The project has no room left.
    #[error("{message}")]
    Full { project: String, message: String },
    /// Another call got in between.
    #[error("{message}")]
    Aborted { reason: &'static str, message: String },
    /// The peer broke the rules of a stream.
    #[error("{message}")]
    Protocol { code: Code, reason: &'static str, message: String },
    /// A blob is missing or not what it should be.
    #[error("{message}")]
    Blob { code: Code, reason: &'static str, digest: Digest, message: String },
    /// Try again later.
    #[error("{message}")]
    Unavailable { reason: &'static str, message: String },
    /// A commit did not happen.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An upload failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// Stored content cannot be used.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// An import failed.
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl Problem {
    /// A field that is not acceptable.
    pub(crate) fn field(
        field: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::Field { field: field.into(), reason, message: message.into() }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        match problem {
            Problem::Field { field, reason, message: what } => {
                let mut details = info(reason, []);
                details.add_bad_request_violation(field, what);
                Self::with_error_details(Code::InvalidArgument, message, details)
            }
            Problem::Document { reason, findings, .. } => Self::with_error_details(
                Code::InvalidArgument,
                message,
                violations(info(reason, []), &findings),
            ),
            Problem::Unusable { reason, findings, .. } => Self::with_error_details(
                Code::FailedPrecondition,
                message,
                violations(info(reason, []), &findings),
            ),
            Problem::NotFound { kind, name } => not_found(kind, name, message),
            Problem::Exists { kind, name } => {
                resource(Code::AlreadyExists, "ALREADY_EXISTS", kind, name, message)
            }
            Problem::State { reason, subject, .. } => {
                let mut details = info(reason, []);
                details.add_precondition_failure_violation(reason, subject, message.clone());
                Self::with_error_details(Code::FailedPrecondition, message, details)
            }
            Problem::Denied { reason, .. } => {
                Self::with_error_details(Code::PermissionDenied, message, info(reason, []))
            }
            Problem::Full { project, .. } => full(project, message),
            Problem::Aborted { reason, .. } => {
                Self::with_error_details(Code::Aborted, message, info(reason, []))
            }
            Problem::Protocol { code, reason, .. } => {
                Self::with_error_details(code, message, info(reason, []))
            }
            Problem::Blob { code, reason, digest, .. } => {
                let details = info(reason, [("digest", digest.to_string())]);
                Self::with_error_details(code, message, details)
            }
            Problem::Unavailable { reason, .. } => retry(reason, message),
            Problem::Commit(error) => commit(error, message),
            Problem::Store(error) | Problem::Import(ImportError::Store(error)) => store(&error),
            Problem::Import(ImportError::TooMany) => Self::with_error_details(
                Code::ResourceExhausted,
                message,
                info("TOO_MANY_PAIRS", []),
            ),
            Problem::Staging(error) | Problem::Import(ImportError::Upload(error)) => {
                staging(error, message)
            }
            Problem::Content(error) => content(&error),
        }
    }
}

/// The message in a record.
pub(crate) fn stored<M: prost::Message + Default>(record: &Record) -> Result<M, Problem> {
    wire::decode("record", record.body.clone())
        .map_err(|source| ContentError::Record { name: record.name.clone(), source }.into())
}

/// The domain of our `ErrorInfo`s.
const DOMAIN: &str = "countersign.dev";

/// Details travel in a header; past this size common clients refuse the whole answer.
const DETAILS_LIMIT: usize = 5 * 1024;

fn info<const N: usize>(reason: &str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

fn resource(code: Code, reason: &str, kind: Kind, name: String, message: String) -> Status {
    let mut details = info(reason, []);
    details.set_resource_info(kind.as_str(), name, "", message.clone());
    Status::with_error_details(code, message, details)
}

fn not_found(kind: Kind, name: String, message: String) -> Status {
    let reason = match kind {
        Kind::Snapshot | Kind::Holding => "SNAPSHOT_NOT_FOUND",
        Kind::Transform => "TRANSFORM_NOT_FOUND",
        Kind::TestConfig => "TEST_CONFIG_NOT_FOUND",
        Kind::Replay | Kind::Assignment | Kind::Members | Kind::Report => "REPLAY_NOT_FOUND",
    };
    resource(Code::NotFound, reason, kind, name, message)
}

fn retry(reason: &str, message: String) -> Status {
    let mut details = info(reason, []);
    details.set_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, message, details)
}

fn commit(error: CommitError, message: String) -> Status {
    match error {
        CommitError::Exists { kind, name } => {
            resource(Code::AlreadyExists, "ALREADY_EXISTS", kind, name, message)
        }
        CommitError::Missing { kind, name } => not_found(kind, name, message),
        CommitError::Changed { name, current, .. } => Status::with_error_details(
            Code::Aborted,
            message,
            info("ETAG_MISMATCH", [("name", name), ("etag", current)]),
        ),
        // Whoever asks for a lease deals with its loss.
        CommitError::Fenced { .. } => retry("LEASE_LOST", message),
        CommitError::Store(error) => store(&error),
    }
}

fn store(error: &StoreError) -> Status {
    let (code, reason) = if error.is_full() {
        (Code::ResourceExhausted, "STORE_FULL")
    } else if error.is_damage() {
        (Code::DataLoss, "STORE_DAMAGED")
    } else if matches!(error, StoreError::Unsynced { .. }) {
        (Code::Internal, "STORE_UNSYNCED")
    } else if error.is_unavailable() {
        let message = chain(error);
        tracing::warn!(error = message, "a store is not available");
        return retry("STORE_UNAVAILABLE", message);
    } else if matches!(error, StoreError::Stopped) {
        return retry("STOPPING", error.to_string());
    } else {
        (Code::Internal, "STORE_FAILED")
    };
    let message = chain(error);
    tracing::error!(reason, error = message, "store failed");
    Status::with_error_details(code, message, info(reason, []))
}

fn full(project: impl Into<String>, message: String) -> Status {
    let mut details = info("PROJECT_FULL", []);
    details.add_quota_failure_violation(project, message.clone());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn staging(error: StagingError, message: String) -> Status {
    match error {
        StagingError::Gap { expected, .. } => Status::with_error_details(
            Code::OutOfRange,
            message,
            info("UPLOAD_GAP", [("expected_sequence", expected.to_string())]),
        ),
        StagingError::TooLarge { .. } => {
            let mut details = info("PIECE_TOO_LARGE", []);
            details.add_bad_request_violation("data", message.clone());
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        StagingError::OverQuota { .. } => {
            let mut details = info("UPLOAD_TOO_LARGE", []);
            details.add_quota_failure_violation("upload", message.clone());
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
        StagingError::NoRoom => full("project", message),
        StagingError::Paused => retry("UPLOAD_PAUSED", message),
        StagingError::Store(error) => store(&error),
    }
}

fn content(error: &ContentError) -> Status {
    match error {
        ContentError::Store(error) => store(error),
        ContentError::Missing { digest } => {
            let message = chain(error);
            tracing::error!(%digest, "stored content is missing");
            Status::with_error_details(
                Code::DataLoss,
                message,
                info("BLOB_MISSING", [("digest", digest.to_string())]),
            )
        }
        ContentError::Malformed { .. } | ContentError::Record { .. } => {
            let message = chain(error);
            tracing::error!(error = message, "stored content is malformed");
            Status::with_error_details(Code::DataLoss, message, info("STORE_DAMAGED", []))
        }
    }
}

/// The error and its sources on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn summary(findings: &[Diagnostic]) -> String {
    let errors = findings.iter().filter(|found| found.severity == Severity::Error).count();
    let first = findings
        .iter()
        .find(|found| found.severity == Severity::Error)
        .or_else(|| findings.first());
    match (first, errors) {
        (None, _) => "nothing usable was found".to_owned(),
        (Some(first), 0 | 1) => first.to_string(),
        (Some(first), errors) => format!("{first} (and {} more)", errors - 1),
    }
}

/// One field violation per finding, errors first, as many as fit.
fn violations(mut details: ErrorDetails, findings: &[Diagnostic]) -> ErrorDetails {
    let mut ordered: Vec<&Diagnostic> = findings.iter().collect();
    ordered.sort_by_key(|found| std::cmp::Reverse(found.severity));
    let mut kept = Vec::new();
    let mut size = 0;
    for (index, found) in ordered.iter().enumerate() {
        let violation = violation(found);
        size += violation.field.len() + violation.description.len() + violation.reason.len() + 12;
        if size > DETAILS_LIMIT {
            let rest = format!("{} more findings do not fit in an error", ordered.len() - index);
            kept.push(FieldViolation::new("", rest));
            break;
        }
        kept.push(violation);
    }
    details.set_bad_request(kept);
    details
}

fn violation(found: &Diagnostic) -> FieldViolation {
    let mut description = found.message.clone();
    if !found.subject.is_empty() {
        description = format!("{}: {description}", found.whereabouts());
    }
    if !found.hint.is_empty() {
        description = format!("{description}; {}", found.hint);
    }
    let mut violation = FieldViolation::new(found.path.clone(), description);
    violation.reason = found.code.to_uppercase();
    violation
}

#[cfg(test)]
mod tests;
