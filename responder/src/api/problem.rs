//! Why a call is not answered, and the one place where that becomes a [`Status`]. Each carries `google.rpc` details: an `ErrorInfo` always.

use std::{collections::HashMap, time::Duration};

use countersign_proto::responder::v1::Failure;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of our `ErrorInfo`s.
const DOMAIN: &str = "countersign.dev";
/// How soon to try again.
const RETRY: Duration = Duration::from_secs(1);
/// So many names are told at most.
const NAMES: usize = 20;

/// Why a call is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// A field of the request is not acceptable.
    #[error("{field}: {message}")]
    Field { field: String, reason: &'static str, message: String },
    /// The replay is not served here; these are.
    #[error("the replay {wanted} is not served here{}", told(served))]
    UnknownReplay { wanted: String, served: Vec<String> },
    /// Nothing is served yet.
    #[error("{message}")]
    NothingToServe { message: String },
    /// Too many explanations are asked for at once.
    #[error("too many explanations are asked for at once")]
    Busy,
    /// A fault that the replay was told to make has cut the answer off.
    #[error("the answer was cut off")]
    Cut,
    /// The engine has a defect.
    #[error("the answer could not be made; please report this with the responder's log")]
    Defect,
    /// The HTTP listener would say so in words of ours.
    #[error("{message}")]
    Said { code: Code, reason: String, message: String },
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

    fn code(&self) -> Code {
        match self {
            Self::Field { .. } => Code::InvalidArgument,
            Self::UnknownReplay { .. } => Code::NotFound,
            Self::NothingToServe { .. } => Code::Unavailable,
            Self::Busy => Code::ResourceExhausted,
            Self::Cut => Code::Aborted,
            Self::Defect => Code::Internal,
            Self::Said { code, .. } => *code,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Field { reason, .. } => reason,
            Self::UnknownReplay { .. } => "REPLAY_NOT_SERVED",
            Self::NothingToServe { .. } => "NOTHING_TO_SERVE",
            Self::Busy => "TOO_MANY_EXPLANATIONS",
            Self::Cut => "ANSWER_CUT_OFF",
            Self::Defect => "INTERNAL",
            Self::Said { reason, .. } => reason,
        }
    }
}

fn told(served: &[String]) -> String {
    let names: Vec<&str> = served.iter().take(NAMES).map(String::as_str).collect();
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        let mut details = ErrorDetails::with_error_info(
            problem.reason(),
            DOMAIN,
            HashMap::<String, String>::new(),
        );
        match &problem {
            Problem::Field { field, message, .. } => {
                details.add_bad_request_violation(field, message);
            }
            Problem::UnknownReplay { wanted, .. } => {
                details.set_resource_info("replay", wanted, "", &message);
            }
            Problem::NothingToServe { .. } | Problem::Busy => {
                details.set_retry_info(Some(RETRY));
            }
            Problem::Cut | Problem::Defect | Problem::Said { .. } => {}
        }
        Self::with_error_details(problem.code(), message, details)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.code().into(),
            reason: problem.reason().to_owned(),
            message: problem.to_string(),
        }
    }
}
