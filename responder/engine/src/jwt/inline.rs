//! Keys that stand in a template: what is shown of them is a mark, and whoever writes the mark back means the key that was there.

use std::{collections::BTreeSet, ops::Range};

use crate::json::{Event, Kind, replace, visit};

/// What stands for a key that is not shown.
pub const REDACTED: &str = "(redacted)";

/// A key and where it stands.
struct Found {
    /// The names and indices that lead to it.
    path: Vec<String>,
    span: Range<usize>,
    text: String,
}

/// A template whose keys are replaced by [`REDACTED`]; all else of it stays byte for byte. References to secrets are no keys.
#[must_use]
pub fn redacted(template: &str) -> String {
    let mark = || format!("\"{REDACTED}\"").into_bytes();
    let edits: Vec<_> = find(template).into_iter().map(|found| (found.span, mark())).collect();
    written(template, &edits)
}

/// A template with the keys for which the mark stands, from the template that it replaces.
///
/// # Errors
/// The path of a mark where there was no key.
pub fn restored(template: &str, before: &str) -> Result<String, String> {
    let known = find(before);
    let mut edits = Vec::new();
    for found in find(template).into_iter().filter(|found| found.text == REDACTED) {
        let before_it = known.iter().find(|one| one.path == found.path && one.text != REDACTED);
        let key = before_it.ok_or_else(|| found.path.join("."))?;
        edits.push((found.span, serde_json::Value::from(&*key.text).to_string().into_bytes()));
    }
    Ok(written(template, &edits))
}

fn written(template: &str, edits: &[(Range<usize>, Vec<u8>)]) -> String {
    if edits.is_empty() {
        return template.to_owned();
    }
    String::from_utf8_lossy(&replace(template.as_bytes(), edits)).into_owned()
}

/// The keys in a template, in the order in which they stand.
fn find(template: &str) -> Vec<Found> {
    let mut path: Vec<String> = Vec::new();
    let (mut keys, mut steps) = (Vec::new(), BTreeSet::new());
    let visited = visit(template.as_bytes(), &mut |event| match event {
        // What comes next is put in its place, until whatever holds it ends.
        Event::Open(_) => path.push(String::new()),
        Event::Close => drop(path.pop()),
        Event::Name { name, .. } => put(&mut path, name),
        Event::Item(index) => put(&mut path, &index.to_string()),
        Event::Scalar { kind: Kind::String, span } => {
            let raw = template.get(span.clone()).unwrap_or_default();
            let text: String = serde_json::from_str(raw).unwrap_or_default();
            match path.as_slice() {
                [step @ .., name]
                    if name.eq_ignore_ascii_case("type")
                        && text.eq_ignore_ascii_case("jwt_resign") =>
                {
                    steps.insert(step.to_vec());
                }
                [.., config, name]
                    if config.eq_ignore_ascii_case("config")
                        && name.eq_ignore_ascii_case("key")
                        && !text.trim_start().starts_with("${{") =>
                {
                    keys.push(Found { path: path.clone(), span, text });
                }
                _ => {}
            }
        }
        Event::Scalar { .. } => {}
    });
    if visited.is_err() {
        return Vec::new();
    }
    let is_of_step = |found: &Found| {
        let step = found.path.get(..found.path.len().saturating_sub(2)).unwrap_or_default();
        steps.contains(step)
    };
    keys.retain(is_of_step);
    keys
}

fn put(path: &mut [String], name: &str) {
    if let Some(last) = path.last_mut() {
        name.clone_into(last);
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
        assert_eq!(redacted("no json"), "no json");
    }

    #[test]
    fn a_mark_that_is_written_back_is_the_key_that_was_there() {
        let shown = redacted(TEMPLATE);
        assert_eq!(restored(&shown, TEMPLATE).unwrap(), TEMPLATE);
        let changed = shown.replacen("(redacted)", "another key", 1);
        let kept = restored(&changed, TEMPLATE).unwrap();
        assert!(kept.contains("another key") && kept.contains("BEGIN"), "{kept}");
        let lost = restored(&shown, r#"{"id": "t"}"#).unwrap_err();
        assert_eq!(lost, "responder.0.transforms.1.config.key");
    }
}
