//! Diagnostics: what is wrong with a user's document, where, and how to mend it.
//!
//! A diagnostic never holds a secret, a token or a body. Codes are stable: users' scripts compare them.

use std::fmt;

use crate::transform::{did_you_mean, is_misspelt};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Info,
    /// A part is skipped or served as recorded.
    Warning,
    /// The document is refused.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable code, for example `unknown_transform`.
    pub code: &'static str,
    /// The path of the field, for example `responder[0].transforms[1].config.secretPath`; empty when the whole document is meant.
    pub path: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// How to mend it; may be empty.
    pub hint: String,
    /// The file or recorded pair that it is about; may be empty.
    pub subject: String,
    /// The line within the file, one-based; 0 when unknown.
    pub line: u32,
    /// Which record of the file it is about, counted from one; 0 when unknown.
    pub record: u64,
    /// Where that record begins, in bytes from the beginning of the file; of no account when the record is unknown.
    pub offset: u64,
    /// How many occurrences it stands for.
    pub count: u64,
    /// The name that is not known is a known one but for a slip of the pen. Whoever stores documents refuses it; whoever is handed one that another
    /// version has stored goes by the severity.
    pub misspelt: bool,
}

impl Diagnostic {
    /// A finding that refuses the document.
    pub fn error(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, path, message)
    }

    /// A finding that leaves a part out or as recorded.
    pub fn warning(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, code, path, message)
    }

    /// A finding worth knowing.
    pub fn info(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, path, message)
    }

    fn new(
        severity: Severity,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            path: path.into(),
            message: message.into(),
            hint: String::new(),
            subject: String::new(),
            line: 0,
            record: 0,
            offset: 0,
            count: 1,
            misspelt: false,
        }
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Says which known name may have been meant by one that is not known.
    #[must_use]
    pub(crate) fn unknown_name(self, name: &str, known: &[&str]) -> Self {
        Self { misspelt: is_misspelt(name, known), ..self }.hint(did_you_mean(name, known))
    }

    /// Adds the file or pair that it is about.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Adds the one-based line within the file.
    #[must_use]
    pub fn line(mut self, line: u32) -> Self {
        self.line = line;
        self
    }

    /// The file or pair, with the line and the record where they are known.
    #[must_use]
    pub fn whereabouts(&self) -> String {
        let mut place = self.subject.clone();
        if self.line > 0 {
            place.push_str(&format!(":{}", self.line));
        }
        if self.record > 0 {
            place.push_str(&format!(" (record {}, byte {})", self.record, self.offset));
        }
        place
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.whereabouts())?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} [{}]", self.message, self.code)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// Whether any of the findings refuses the document.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

/// Collects findings, at most `LIMIT` per code: the rest is counted on the last one kept, so that a million bad pairs cost a few kilobytes.
#[derive(Debug, Default, Clone)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// How many findings of one code are kept in full.
    pub const LIMIT: usize = 20;

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let same = self.found.iter().filter(|d| d.code == diagnostic.code).count();
        if same < Self::LIMIT {
            self.found.push(diagnostic);
        } else if let Some(last) = self.found.iter_mut().rev().find(|d| d.code == diagnostic.code) {
            last.count += diagnostic.count;
        }
    }

    /// Whether any of them refuses the document.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        has_errors(&self.found)
    }

    /// The findings so far.
    #[must_use]
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The findings, in the order found.
    #[must_use]
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.found
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, iter: T) {
        for diagnostic in iter {
            self.push(diagnostic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_where_what_and_how_to_mend() {
        let found = Diagnostic::error(
            "unknown_transform",
            "responder[0].transforms[1].type",
            "there is no transform `jwt_resing`",
        )
        .hint("did you mean `jwt_resign`?")
        .subject("t.json")
        .line(7);
        assert_eq!(
            found.to_string(),
            "t.json:7: responder[0].transforms[1].type: there is no transform `jwt_resing` [unknown_transform]; did you mean `jwt_resign`?"
        );
    }

    #[test]
    fn keeps_a_bounded_number_per_code_and_counts_the_rest() {
        let mut all = Diagnostics::default();
        for _ in 0..1000 {
            all.push(Diagnostic::warning("not_a_jwt", "", "no JWT"));
        }
        all.push(Diagnostic::error("other", "", "other"));
        let all = all.into_vec();
        assert_eq!(all.len(), Diagnostics::LIMIT + 1);
        assert_eq!(all.iter().map(|d| d.count).sum::<u64>(), 1001);
    }
}
