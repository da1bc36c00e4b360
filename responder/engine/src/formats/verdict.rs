//! Why an entry is no pair: skipped or refused, and the finding that says so.
//!
//! Findings here know the place within the entry; the reader of the file adds the file and the line. They name keys and kinds, and quote
//! no recorded value.

use crate::{diagnostic::Diagnostic, formats::MAX_ENTRY};

/// An entry that is left out.
#[derive(Debug)]
pub(super) struct Left {
    /// Skipped, rather than refused.
    pub(super) skipped: bool,
    /// Boxed: results carry it on every step.
    pub(super) why: Box<Diagnostic>,
}

impl Left {
    /// The entry is understood and cannot be served.
    pub(super) fn skipped(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { skipped: true, why: Box::new(Diagnostic::warning(code, path, message)) }
    }

    /// The entry should have been a pair.
    pub(super) fn refused(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { skipped: false, why: Box::new(Diagnostic::error(code, path, message)) }
    }

    /// Adds how to mend it.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { why: Box::new(self.why.hint(hint)), ..self }
    }

    /// Moves a finding about a pair to its place in a document of another tool, which has a `request` and a `response` of its own.
    pub(super) fn within(mut self, place: &str) -> Self {
        let theirs =
            |text: &str| text.replace("http.req", "request").replace("http.res", "response");
        let path = theirs(&self.why.path);
        self.why.message = theirs(&self.why.message);
        self.why.path = match (place.is_empty(), path.is_empty()) {
            (true, _) => path,
            (false, true) => place.to_owned(),
            (false, false) => format!("{place}.{path}"),
        };
        self
    }
}

/// A limit is exceeded.
pub(super) fn limit(message: String) -> Left {
    Left::refused("limit_exceeded", "", message)
}

/// The entry is larger than we read.
pub(super) fn too_large() -> Left {
    Left::refused(
        "limit_exceeded",
        "",
        format!("the entry is larger than {} MiB", MAX_ENTRY / (1024 * 1024)),
    )
    .hint("leave the large pair out of the recording, or shorten its body")
}

/// A part is not there.
pub(super) fn missing(path: &str) -> Left {
    Left::refused("missing_field", path, format!("`{path}` is missing"))
}

/// A part is there and makes no sense.
pub(super) fn invalid(path: impl Into<String>, expected: &str) -> Left {
    let path = path.into();
    let message = format!("`{path}` is not {expected}");
    Left::refused("invalid_field", path, message)
}
