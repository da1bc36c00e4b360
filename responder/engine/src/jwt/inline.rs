//! Keys that stand in a template: what is shown of them is a mark, and whoever writes the mark back means the key that was there.
//!
//! A key comes back only into a step that is read as the one that it was written into, and of a template that cannot be walked nothing is shown.

use std::{collections::BTreeSet, ops::Range};

use crate::json::{Event, Kind, NotJson, replace, visit};

/// What stands for a key that is not shown.
pub const REDACTED: &str = "(redacted)";

/// Why a mark does not stand for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// There was none at this path.
    #[error("there was no key at {0}")]
    NoKey(String),
    /// This path names two members, so that the step that shows a key and the step that has it could be two.
    #[error("{0} is there twice")]
    Doubled(String),
}

impl NotRestored {
    /// Where in the template.
    #[must_use]
    pub fn path(&self) -> &str {
        let (Self::NoKey(path) | Self::Doubled(path)) = self;
        path
    }
}

/// A key and where it stands.
struct Found {
    /// The names and indices that lead to it.
    path: Vec<String>,
    span: Range<usize>,
    /// As it is written.
    raw: String,
    is_mark: bool,
}

/// A template whose keys are replaced by [`REDACTED`]; all else of it stays byte for byte, but for a byte order mark. References to secrets are
/// no keys.
#[must_use]
pub fn redacted(template: &str) -> String {
    let template = without_mark(template);
    let mark = || format!("\"{REDACTED}\"").into_bytes();
    let Ok(walk) = Walk::through(template) else {
        return String::from_utf8_lossy(&mark()).into_owned();
    };
    let edits: Vec<_> = walk.keys.into_iter().map(|found| (found.span, mark())).collect();
    written(template, &edits)
}

/// A template with the keys for which the mark stands, from the template that it replaces, and without a byte order mark.
///
/// # Errors
/// The path of a mark that stands for no key.
pub fn restored(template: &str, before: &str) -> Result<String, NotRestored> {
    let template = without_mark(template);
    // What is wrong with one that cannot be walked, whoever reads it tells.
    let Ok(walk) = Walk::through(template) else { return Ok(template.to_owned()) };
    let marks: Vec<Found> = walk.keys.into_iter().filter(|found| found.is_mark).collect();
    if let (Some(doubled), false) = (walk.doubled, marks.is_empty()) {
        return Err(NotRestored::Doubled(doubled));
    }
    let known = Walk::through(without_mark(before)).map(|walk| walk.keys).unwrap_or_default();
    let mut edits = Vec::new();
    for found in marks {
        let before_it = known.iter().find(|one| one.path == found.path && !one.is_mark);
        let key = before_it.ok_or_else(|| NotRestored::NoKey(found.path.join(".")))?;
        edits.push((found.span, key.raw.clone().into_bytes()));
    }
    Ok(written(template, &edits))
}

/// Whether keys were taken out of a template.
#[must_use]
pub fn has_marks(template: &str) -> bool {
    let walk = Walk::through(without_mark(template));
    walk.is_ok_and(|walk| walk.keys.iter().any(|found| found.is_mark))
}

/// Whether all of a template can be walked, so that no key in it is overlooked.
#[must_use]
pub fn is_readable(template: &str) -> bool {
    Walk::through(without_mark(template)).is_ok()
}

/// Readers of templates skip a byte order mark, so that it may stand before one.
fn without_mark(template: &str) -> &str {
    template.strip_prefix('\u{feff}').unwrap_or(template)
}

fn written(template: &str, edits: &[(Range<usize>, Vec<u8>)]) -> String {
    if edits.is_empty() {
        return template.to_owned();
    }
    String::from_utf8_lossy(&replace(template.as_bytes(), edits)).into_owned()
}

/// What was seen on the way through a template.
#[derive(Default)]
struct Walk {
    /// Where it is.
    path: Vec<String>,
    /// The names that each object on the way has had, in lower case.
    names: Vec<BTreeSet<String>>,
    /// The keys, in the order in which they stand.
    keys: Vec<Found>,
    /// The steps that have keys.
    steps: BTreeSet<Vec<String>>,
    /// The first member that another one of its object cannot be told from.
    doubled: Option<String>,
}

impl Walk {
    fn through(template: &str) -> Result<Self, NotJson> {
        let mut walk = Self::default();
        visit(template.as_bytes(), &mut |event| walk.see(template, event))?;
        let steps = std::mem::take(&mut walk.steps);
        let is_of_step = |found: &Found| {
            let step = found.path.get(..found.path.len().saturating_sub(2)).unwrap_or_default();
            steps.contains(step)
        };
        walk.keys.retain(is_of_step);
        Ok(walk)
    }

    fn see(&mut self, template: &str, event: Event<'_>) {
        match event {
            // What comes next is put in its place, until whatever holds it ends.
            Event::Open(_) => {
                self.path.push(String::new());
                self.names.push(BTreeSet::new());
            }
            Event::Close => {
                self.path.pop();
                self.names.pop();
            }
            Event::Name { name, .. } => {
                self.put(name);
                let names = self.names.last_mut();
                if names.is_some_and(|names| !names.insert(name.to_ascii_lowercase())) {
                    self.doubled.get_or_insert_with(|| self.path.join("."));
                }
            }
            Event::Item(index) => self.put(&index.to_string()),
            Event::Scalar { kind: Kind::Null, .. } => {}
            Event::Scalar { kind, span } => self.scalar(template, kind, span),
        }
    }

    fn scalar(&mut self, template: &str, kind: Kind, span: Range<usize>) {
        let raw = template.get(span.clone()).unwrap_or_default();
        let text: String = match kind {
            Kind::String => serde_json::from_str(raw).unwrap_or_default(),
            _ => raw.to_owned(),
        };
        match self.path.as_slice() {
            [step @ .., name]
                if name.eq_ignore_ascii_case("type") && text.eq_ignore_ascii_case("jwt_resign") =>
            {
                self.steps.insert(step.to_vec());
            }
            [.., config, name]
                if config.eq_ignore_ascii_case("config")
                    && name.eq_ignore_ascii_case("key")
                    && !text.trim_start().starts_with("${{") =>
            {
                let is_mark = text == REDACTED;
                let path = self.path.clone();
                self.keys.push(Found { path, span, raw: raw.to_owned(), is_mark });
            }
            _ => {}
        }
    }

    fn put(&mut self, name: &str) {
        if let Some(last) = self.path.last_mut() {
            name.clone_into(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{"id": "t",  "responder": [{"transforms": [
        {"type": "json_path", "config": {"key": "stays"}},
        {"config": {"key": "a \"secret\" key", "kid": "k"}, "type": "jwt_resign"},
        {"type": "JWT_Resign", "config": {"Key": "-----BEGIN\nx"}},
        {"type": "jwt_resign", "config": {"key": "${{secret:a/b}}"}}]}]}"#;

    #[test]
    fn keys_are_not_shown_and_all_else_is_as_it_was_written() {
        let shown = redacted(TEMPLATE);
        assert!(!shown.contains("secret\\\"") && !shown.contains("BEGIN"), "{shown}");
        let expected = TEMPLATE
            .replace(r#""a \"secret\" key""#, r#""(redacted)""#)
            .replace(r#""-----BEGIN\nx""#, r#""(redacted)""#);
        assert_eq!(shown, expected);
        assert_eq!(redacted(&shown), shown);
        assert_eq!(redacted("no json"), "\"(redacted)\"", "a key could be anywhere in it");
    }

    #[test]
    fn a_mark_that_is_written_back_is_the_key_that_was_there() {
        let shown = redacted(TEMPLATE);
        assert_eq!(restored(&shown, TEMPLATE).unwrap(), TEMPLATE);
        let changed = shown.replacen("(redacted)", "another key", 1);
        let kept = restored(&changed, TEMPLATE).unwrap();
        assert!(kept.contains("another key") && kept.contains("BEGIN"), "{kept}");
        let lost = restored(&shown, r#"{"id": "t"}"#).unwrap_err();
        assert_eq!(lost, NotRestored::NoKey("responder.0.transforms.1.config.key".to_owned()));
    }

    fn step(step: &str) -> String {
        format!(r#"{{"id": "t", "responder": [{{"transforms": [{step}]}}]}}"#)
    }

    #[test]
    fn a_key_comes_back_into_no_step_that_only_looks_like_its_own() {
        let before = step(r#"{"type": "jwt_resign", "config": {"key": "hush"}}"#);
        for shown in [
            r#"{"type": "store_sig", "TYPE": "jwt_resign", "config": {"key": "(redacted)"}}"#,
            r#"{"TYPE": "jwt_resign", "type": "store_sig", "config": {"key": "(redacted)"}}"#,
            r#"{"type": "store_sig", "type": "jwt_resign", "config": {"key": "(redacted)"}}"#,
            r#"{"type": "jwt_resign", "config": {"key": "(redacted)", "Key": "x"}}"#,
            r#"{"type": "jwt_resign", "config": {}, "Config": {"key": "(redacted)"}}"#,
            r#"{"type": "store_sig", "config": {"key": "(redacted)"}}]}], "responder": [{"transforms": [{"type": "jwt_resign"}"#,
        ] {
            let refused = restored(&step(shown), &before);
            assert!(!refused.as_ref().is_ok_and(|json| json.contains("hush")), "{refused:?}");
            let is_said =
                matches!(refused, Err(NotRestored::Doubled(_))) || shown.contains("Config");
            assert!(is_said, "{shown}: {refused:?}");
        }
        // Another kind of step has no keys.
        let other = step(r#"{"type": "store_sig", "config": {"key": "(redacted)"}}"#);
        assert_eq!(restored(&other, &before).unwrap(), other);
        // Names that are there twice do not matter where no key is meant.
        let twice = step(r#"{"type": "trim", "Type": "trim", "config": {"a": "1", "A": "2"}}"#);
        assert_eq!(restored(&twice, &before).unwrap(), twice);
    }

    #[test]
    fn neither_a_byte_order_mark_nor_a_number_hides_a_key() {
        let plain = step(r#"{"type": "jwt_resign", "config": {"key": "hush"}}"#);
        let marked = format!("\u{feff}{plain}");
        let shown = redacted(&marked);
        assert_eq!(shown, plain.replace("hush", REDACTED));
        assert_eq!(restored(&format!("\u{feff}{shown}"), &marked).unwrap(), plain);
        for scalar in ["1234567890", "true", "1.5"] {
            let plain =
                step(&format!(r#"{{"type": "jwt_resign", "config": {{"key": {scalar}}}}}"#));
            let shown = redacted(&plain);
            assert!(!shown.contains(scalar) && shown.contains(REDACTED), "{shown}");
            assert_eq!(restored(&shown, &plain).unwrap(), plain);
        }
    }
}
