//! Why a command fails, how that is told, and with which exit code. The codes are part of the interface: scripts compare them.

use std::{fmt::Write as _, io, path::Path};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command or a file given to it cannot be used as it is.
    #[error("{what}")]
    Refused {
        /// What is refused.
        what: String,
        /// Every reason, one per line.
        findings: Vec<String>,
    },
    /// The server cannot be reached.
    #[error("cannot reach the control plane at {server}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network said.
        why: String,
    },
    /// The server answered with an error.
    #[error("cannot {doing}")]
    Rpc {
        /// What the command was about.
        doing: String,
        /// What the server said.
        #[source]
        status: Box<Status>,
    },
    /// A replay is not ready in time.
    #[error("{replay} is not ready after {seconds} s: {why}")]
    NotReady {
        /// The replay.
        replay: String,
        /// How long was waited.
        seconds: u64,
        /// The last condition.
        why: String,
    },
    /// A file or the network failed.
    #[error("cannot {doing}")]
    Io {
        /// What the command was about.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A part of the command did not start or did not do its work.
    #[error("{what}")]
    Failed {
        /// What failed, with its causes.
        what: String,
    },
}

impl Failure {
    /// Something that is refused for one reason.
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), findings: Vec::new() }
    }

    /// Something that failed.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into() }
    }

    /// An error and its causes on one line.
    pub(crate) fn chain(error: &dyn std::error::Error) -> Self {
        Self::failed(chain(error))
    }

    /// A failure of the system.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    /// A file that cannot be read. One that is not there is the user's mistake, not the system's.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::refused(format!("there is no file or directory {}", path.display()));
        }
        Self::io(format!("read {}", path.display()), source)
    }

    /// For `map_err` at a call: what the call was for.
    pub(crate) fn rpc(doing: impl Into<String>) -> impl FnOnce(Status) -> Self {
        let doing = doing.into();
        move |status| Self::Rpc { doing, status: Box::new(status) }
    }

    /// Whether the server answered with this code.
    pub(crate) fn is(&self, code: Code) -> bool {
        matches!(self, Self::Rpc { status, .. } if status.code() == code)
    }

    /// The exit code, as `--help` documents it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 2,
            Self::Unreachable { .. } => 4,
            Self::NotReady { .. } => 5,
            Self::Io { .. } | Self::Failed { .. } => 1,
            Self::Rpc { status, .. } => match status.code() {
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::AlreadyExists
                | Code::OutOfRange => 2,
                Code::NotFound => 3,
                Code::Unavailable => 4,
                _ => 1,
            },
        }
    }

    /// The lines for people: what failed, then each finding on a line of its own, then what could be tried.
    pub(crate) fn render(&self) -> String {
        let mut text = self.to_string();
        match self {
            Self::Refused { findings, .. } => {
                for finding in findings {
                    indent(&mut text, finding);
                }
            }
            Self::Unreachable { why, .. } => {
                indent(&mut text, why);
                indent(
                    &mut text,
                    "hint: start one with `countersign-control-plane`, or name it with --server or COUNTERSIGN_SERVER",
                );
            }
            Self::Rpc { status, .. } => render_status(&mut text, status),
            Self::Io { source, .. } => {
                let _ = write!(text, ": {source}");
            }
            Self::NotReady { .. } | Self::Failed { .. } => {}
        }
        text
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut causes: Vec<String> = std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    // Libraries of others do repeat themselves.
    causes.dedup();
    causes.join(": ")
}

fn render_status(text: &mut String, status: &Status) {
    let details = status.get_error_details();
    let violations: &[FieldViolation] =
        details.bad_request().map_or(&[], |bad| &bad.field_violations);
    match (headline(status.message(), violations), violations) {
        ("", []) => {
            let _ = write!(text, ": {}", status.code().description());
        }
        ("", _) => text.push_str(": the request is refused"),
        (headline, _) => {
            let _ = write!(text, ": {headline}");
        }
    }
    // A connection that broke: what the library makes of it says little, what is below it says why.
    if let Some(cause) = std::error::Error::source(status) {
        indent(text, &chain(cause));
    }
    for violation in violations {
        indent(text, &describe(violation));
    }
    if let Some(hint) = hint(status, &details) {
        indent(text, &format!("hint: {hint}"));
    }
}

/// The message without the findings that follow line by line anyway.
fn headline<'a>(message: &'a str, violations: &[FieldViolation]) -> &'a str {
    let cut = violations.iter().filter_map(|violation| {
        let description = violation.description.split(';').next().unwrap_or_default();
        [violation.field.as_str(), description]
            .into_iter()
            .filter(|part| !part.is_empty())
            .filter_map(|part| message.find(part))
            .min()
    });
    let head = cut.min().and_then(|at| message.get(..at)).unwrap_or(message);
    head.trim_end_matches([' ', ':'])
}

fn describe(violation: &FieldViolation) -> String {
    let mut line = String::new();
    if !violation.field.is_empty() {
        let _ = write!(line, "{}: ", violation.field);
    }
    line.push_str(&violation.description);
    if !violation.reason.is_empty() {
        let _ = write!(line, " [{}]", violation.reason.to_lowercase());
    }
    line
}

fn hint(status: &Status, details: &ErrorDetails) -> Option<&'static str> {
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    Some(match (reason, status.code()) {
        ("SNAPSHOT_NOT_FOUND", _) => "`countersign snapshot list` shows what there is",
        ("TRANSFORM_NOT_FOUND", _) => "`countersign transform list` shows what there is",
        ("TEST_CONFIG_NOT_FOUND", _) => "`countersign testconfig list` shows what there is",
        ("REPLAY_NOT_FOUND", _) => "`countersign replay list` shows what there is",
        ("SNAPSHOT_COMMITTED", _) => {
            "a snapshot never changes; import under another --id, or delete this one first"
        }
        ("ETAG_MISMATCH", _) => "somebody else changed it in between; look at it again and repeat",
        (_, Code::Unavailable) => "the control plane may be restarting; try again",
        (_, Code::Unimplemented) => {
            "the server does not know this call; is it a Countersign control plane of this version?"
        }
        _ => return None,
    })
}

fn indent(text: &mut String, line: &str) {
    text.push_str("\n  ");
    text.push_str(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(violations: Vec<FieldViolation>, message: &str) -> Failure {
        let mut details = ErrorDetails::with_error_info("INVALID_TEMPLATE", "countersign.dev", []);
        details.set_bad_request(violations);
        let status = Status::with_error_details(Code::InvalidArgument, message, details);
        Failure::rpc("put the transform t.json")(status)
    }

    #[test]
    fn every_violation_stands_on_its_own_line() {
        let mut first = FieldViolation::new(
            "responder[0].transforms[1].type",
            "there is no `jwt_resing`; did you mean `jwt_resign`?",
        );
        first.reason = "UNKNOWN_TRANSFORM".into();
        let second = FieldViolation::new("id", "a template needs an id");
        let failure = refused(
            vec![first, second],
            "the template is refused: responder[0].transforms[1].type: there is no `jwt_resing` [unknown_transform] (and 1 more)",
        );
        assert_eq!(
            failure.render(),
            "cannot put the transform t.json: the template is refused\n  \
             responder[0].transforms[1].type: there is no `jwt_resing`; did you mean `jwt_resign`? [unknown_transform]\n  \
             id: a template needs an id"
        );
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn a_message_that_is_the_violation_is_not_said_twice() {
        let failure = refused(
            vec![FieldViolation::new("snapshot_id", "`-` is no id")],
            "snapshot_id: `-` is no id",
        );
        assert_eq!(
            failure.render(),
            "cannot put the transform t.json: the request is refused\n  snapshot_id: `-` is no id"
        );
    }

    #[test]
    fn codes_follow_the_kind_of_failure() {
        let code = |code| Failure::rpc("x")(Status::new(code, "m")).exit_code();
        assert_eq!(
            [Code::NotFound, Code::Unavailable, Code::AlreadyExists, Code::Internal].map(code),
            [3, 4, 2, 1]
        );
        assert_eq!(Failure::refused("x").exit_code(), 2);
        let late = Failure::NotReady { replay: "r".into(), seconds: 3, why: "w".into() };
        assert_eq!((late.exit_code(), late.render().as_str()), (5, "r is not ready after 3 s: w"));
    }

    #[test]
    fn a_missing_resource_comes_with_a_hint() {
        let details = ErrorDetails::with_error_info("SNAPSHOT_NOT_FOUND", "countersign.dev", []);
        let status = Status::with_error_details(Code::NotFound, "there is no snapshot x", details);
        assert_eq!(
            Failure::rpc("show x")(status).render(),
            "cannot show x: there is no snapshot x\n  hint: `countersign snapshot list` shows what there is"
        );
    }
}
