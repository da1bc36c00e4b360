//! What there is to say about manifests: each finding with its file, its document and its field.

use serde_json::{Value, json};

/// A field of a document of a file.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    file: &'a str,
    document: usize,
    path: String,
}

impl<'a> Place<'a> {
    /// The document itself; the first one is 1.
    pub(super) fn document(file: &'a str, document: usize) -> Self {
        Self { file, document, path: String::new() }
    }

    /// A field of this one.
    pub(super) fn field(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{dot}{name}", self.path), ..self.clone() }
    }

    /// An entry of this one whose key may hold dots.
    pub(super) fn key(&self, name: &str) -> Self {
        Self { path: format!("{}[{name}]", self.path), ..self.clone() }
    }

    /// An item of this one.
    pub(super) fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), ..self.clone() }
    }
}

/// Findings in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    is_error: bool,
    file: String,
    document: usize,
    path: String,
    what: String,
}

impl Findings {
    /// Something that is not converted.
    pub(super) fn error(&mut self, place: &Place<'_>, what: String) {
        self.push(true, place, what);
    }

    /// Something that is to be known.
    pub(super) fn warn(&mut self, place: &Place<'_>, what: String) {
        self.push(false, place, what);
    }

    fn push(&mut self, is_error: bool, place: &Place<'_>, what: String) {
        let (file, document, path) = (place.file.to_owned(), place.document, place.path.clone());
        self.0.push(Finding { is_error, file, document, path, what });
    }

    /// How many errors there are.
    pub(super) fn errors(&self) -> usize {
        self.0.iter().filter(|finding| finding.is_error).count()
    }

    /// One line each, and whether it is an error.
    pub(super) fn lines(&self) -> Vec<(bool, String)> {
        let line = |finding: &Finding| {
            let Finding { file, document, path, what, .. } = finding;
            let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
            (finding.is_error, format!("{file}: document {document}:{path} {what}"))
        };
        self.0.iter().map(line).collect()
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let one = |finding: &Finding| {
            json!({
                "severity": if finding.is_error { "error" } else { "warning" },
                "file": finding.file,
                "document": finding.document,
                "field": finding.path,
                "message": finding.what,
            })
        };
        self.0.iter().map(one).collect()
    }
}
