//! Text with placeholders: `${{…}}` in the config of a chain.
//!
//! Placeholders are plain textual replacement, resolved right before the step runs; what cannot be resolved stays as it is written. Only an
//! operator's config is ever read this way, never text that comes from traffic. Secrets resolve where [`Text::with_secrets`] was asked
//! for, in answers only: on a request they would end in signatures and in what is said about misses.

use std::{borrow::Cow, sync::Arc};

use super::{Side, materials::Required, op::Nature, random::Pattern, world::Scope};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::key::SecretRef,
};

/// Placeholders nest this deep: a table's key and field may hold others.
const MAX_DEPTH: usize = 8;

/// A text of a config.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Placeholder { written: String, source: Source },
}

/// Where a placeholder's value comes from.
#[derive(Debug, Clone)]
enum Source {
    Variable(String),
    Environment(String),
    Random { written: String, pattern: Arc<Pattern> },
    File(String),
    Table { name: String, key: Text, field: Text },
    Secret(SecretRef),
}

impl Text {
    /// Reads a text in which secrets may not be named.
    pub(crate) fn parse(written: &str, at: &str, found: &mut Diagnostics) -> Option<Self> {
        Self::read(written, false, 0, at, found)
    }

    /// Reads a text in which secrets may be named.
    pub(crate) fn with_secrets(written: &str, at: &str, found: &mut Diagnostics) -> Option<Self> {
        Self::read(written, true, 0, at, found)
    }

    fn read(
        written: &str,
        secrets: bool,
        depth: usize,
        at: &str,
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = written;
        while let Some((before, inner, after)) = next_placeholder(rest) {
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            let whole = format!("${{{{{inner}}}}}");
            match Source::parse(inner.trim(), secrets, depth, at, found)? {
                Some(source) => parts.push(Part::Placeholder { written: whole, source }),
                None => parts.push(Part::Literal(whole)),
            }
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Some(Self { written: written.to_owned(), parts })
    }

    /// The text as it was written.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// The text, when there is no placeholder in it.
    pub(crate) fn plain(&self) -> Option<&str> {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_))).then_some(&self.written)
    }

    /// When its value is known.
    pub(crate) fn nature(&self) -> Nature {
        let nature = |source: &Source| match source {
            Source::Environment(_) | Source::File(_) => Nature::Static,
            // A table may be a variable's.
            Source::Variable(_)
            | Source::Random { .. }
            | Source::Secret(_)
            | Source::Table { .. } => Nature::PerRequest,
        };
        self.sources().map(nature).max().unwrap_or(Nature::Static)
    }

    /// What it needs from a node.
    pub(crate) fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        for source in self.sources() {
            match source {
                Source::Environment(name) => drop(required.environment.insert(name.clone())),
                Source::File(name) => drop(required.files.insert(name.clone())),
                Source::Table { name, key, field } => {
                    required.dataframes.insert(name.clone());
                    key.require(required, secrets);
                    field.require(required, secrets);
                }
                Source::Secret(secret) => {
                    required.secret_texts.insert(secret.clone());
                    secrets.push(secret.clone());
                }
                Source::Variable(name) => drop(required.variables.insert(name.clone())),
                Source::Random { .. } => {}
            }
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Placeholder { source, .. } => Some(source),
        })
    }

    /// The text with its placeholders resolved.
    pub(crate) fn resolve(&self, scope: &mut Scope) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.written.len());
        // The same pattern in one text makes the same value.
        let mut made: Vec<(&str, String)> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Placeholder { source: Source::Random { written, pattern }, .. } => {
                    let known =
                        made.iter().find(|made| made.0 == written).map(|made| made.1.clone());
                    let value = known.unwrap_or_else(|| pattern.generate(scope.random()));
                    out.extend_from_slice(value.as_bytes());
                    made.push((written, value));
                }
                Part::Placeholder { written, source } => match source.resolve(scope) {
                    Some(value) => out.extend_from_slice(&value),
                    None => out.extend_from_slice(written.as_bytes()),
                },
            }
        }
        out
    }

    /// The same, as a string; bytes that are no UTF-8 are replaced.
    pub(crate) fn resolve_string(&self, scope: &mut Scope) -> String {
        match self.plain() {
            Some(text) => text.to_owned(),
            None => String::from_utf8_lossy(&self.resolve(scope)).into_owned(),
        }
    }
}

/// The text before the first placeholder, its inside, and the text behind it. Placeholders inside it belong to it, and so do braces in a
/// quoted pattern.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${{")?;
    let (mut depth, mut quoted, mut escaped) = (1_usize, false, false);
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if escaped {
            escaped = false;
            continue;
        }
        let tail = rest.get(at..).unwrap_or_default();
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '$' if !quoted && tail.starts_with("${{") => depth += 1,
            '}' if !quoted && tail.starts_with("}}") => {
                chars.next();
                depth -= 1;
                if depth == 0 {
                    return Some((before, rest.get(..at)?, rest.get(at + 2..)?));
                }
            }
            _ => {}
        }
    }
    None
}

impl Source {
    /// Reads the inside of a placeholder. `Some(None)` is a placeholder that stays as it is written.
    #[expect(clippy::option_option, reason = "refused, left in place, or understood")]
    fn parse(
        inner: &str,
        secrets: bool,
        depth: usize,
        at: &str,
        found: &mut Diagnostics,
    ) -> Option<Option<Self>> {
        let (form, rest) = inner.split_once(':').unwrap_or(("", inner));
        let rest = rest.trim();
        let source = match form.trim() {
            "" | "var" => Self::Variable(rest.to_owned()),
            "env_var" | "env" => Self::Environment(rest.to_owned()),
            "file" => {
                if rest.starts_with("s3://") {
                    found.push(
                        Diagnostic::warning("file_store_missing", at, "there is no file store to read `s3://` from; the placeholder is left in place")
                            .hint("mount the file and name it as dataframe:<id>__<file>"),
                    );
                    return Some(None);
                }
                Self::File(rest.to_owned())
            }
            "rand_string" => return Self::random(rest, at, found).map(Some),
            "dataframe" => return Self::table(rest, secrets, depth, at, found),
            "secret" => return Self::secret(rest, secrets, at, found).map(Some),
            other => {
                found.push(
                    Diagnostic::warning(
                        "unknown_placeholder",
                        at,
                        format!(
                            "there is no placeholder of the form `{other}:`; it is left in place"
                        ),
                    )
                    .unknown_name(
                        other,
                        &["var", "env_var", "rand_string", "file", "dataframe", "secret"],
                    ),
                );
                return Some(None);
            }
        };
        Some(Some(source))
    }

    fn random(written: &str, at: &str, found: &mut Diagnostics) -> Option<Self> {
        let pattern =
            serde_json::from_str::<String>(written).unwrap_or_else(|_| written.to_owned());
        match Pattern::parse(&pattern) {
            Ok(pattern) => {
                Some(Self::Random { written: written.to_owned(), pattern: Arc::new(pattern) })
            }
            Err(why) => {
                let message = format!("`{pattern}` describes no random text: {why}");
                found.push(Diagnostic::error("bad_regex", at, message));
                None
            }
        }
    }

    #[expect(clippy::option_option, reason = "refused, left in place, or understood")]
    fn table(
        rest: &str,
        secrets: bool,
        depth: usize,
        at: &str,
        found: &mut Diagnostics,
    ) -> Option<Option<Self>> {
        let fields: Vec<&str> = split_outside(rest, ':').into_iter().map(str::trim).collect();
        let [name, key, field] = fields.as_slice() else {
            found.push(Diagnostic::error(
                "bad_placeholder",
                at,
                "a table's cell is ${{dataframe:NAME:KEY:FIELD}}",
            ));
            return None;
        };
        if depth >= MAX_DEPTH {
            found.push(Diagnostic::error("bad_placeholder", at, "placeholders nest too deeply"));
            return None;
        }
        let mut inner = |text: &str| Text::read(text, secrets, depth + 1, at, found);
        let (key, field) = (inner(key)?, inner(field)?);
        Some(Some(Self::Table { name: (*name).to_owned(), key, field }))
    }

    fn secret(rest: &str, secrets: bool, at: &str, found: &mut Diagnostics) -> Option<Self> {
        if !secrets {
            found.push(
                Diagnostic::error("secret_not_allowed", at, "a secret may not be named here")
                    .hint("secrets are read by `constant` and `jwt_resign` only"),
            );
            return None;
        }
        match SecretRef::parse(&format!("${{{{secret:{rest}}}}}")) {
            Ok(secret) => Some(Self::Secret(secret)),
            Err(why) => {
                found.push(Diagnostic::error(why.code, at, format!("this names no secret: {why}")));
                None
            }
        }
    }

    fn resolve(&self, scope: &mut Scope) -> Option<Cow<'static, [u8]>> {
        match self {
            Self::Variable(name) => scope.variable(name).map(|value| Cow::Owned(value.to_vec())),
            // An environment variable that is not set is empty, as in a shell.
            Self::Environment(name) => Some(Cow::Owned(
                scope
                    .world
                    .materials
                    .environment
                    .get(name)
                    .cloned()
                    .unwrap_or_default()
                    .into_bytes(),
            )),
            Self::File(name) => {
                scope.world.materials.file(name).map(|bytes| Cow::Owned(bytes.to_vec()))
            }
            Self::Table { name, key, field } => {
                let (key, field) = (key.resolve_string(scope), field.resolve_string(scope));
                scope.cell(name, &key, &field).map(|cell| Cow::Owned(cell.into_bytes()))
            }
            Self::Secret(secret) if scope.side == Side::Response => {
                scope.secret(secret).map(|text| Cow::Owned(text.to_vec()))
            }
            Self::Secret(_) | Self::Random { .. } => None,
        }
    }
}

/// Splits at separators that stand outside placeholders.
pub(crate) fn split_outside(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        let tail = text.get(at..).unwrap_or_default();
        if tail.starts_with("${{") {
            depth += 1;
        } else if tail.starts_with("}}") {
            depth = depth.saturating_sub(1);
        } else if c == separator && depth == 0 {
            parts.push(text.get(from..at).unwrap_or_default());
            from = at + c.len_utf8();
        }
    }
    parts.push(text.get(from..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests;
