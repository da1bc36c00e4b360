//! The shape of a JSON document: which members there are and of which type each value is.

use serde_json::Value;

use super::paths::{self, Paths};

/// Where the shape of a live body differs from that of a recorded one; `None` when it does not, or the recorded one is no JSON.
pub(super) fn difference(recorded: &[u8], live: &[u8], which: &Paths) -> Option<String> {
    let old: Value = serde_json::from_slice(recorded).ok()?;
    let Ok(new) = serde_json::from_slice::<Value>(live) else {
        return Some("it is no JSON".to_owned());
    };
    let mut path = Vec::new();
    walk(&old, &new, which, &mut path)
}

fn walk(old: &Value, new: &Value, which: &Paths, path: &mut Vec<String>) -> Option<String> {
    if !which.compares(path) {
        return None;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                path.push(name.clone());
                let found = match new.get(name) {
                    Some(other) => walk(value, other, which, path),
                    None => {
                        which.compares(path).then(|| format!("{} is missing", paths::shown(path)))
                    }
                };
                if found.is_some() {
                    return found;
                }
                path.pop();
            }
            let added = new.keys().find(|name| !old.contains_key(*name))?;
            path.push(added.clone());
            let found = which.compares(path).then(|| format!("{} is new", paths::shown(path)));
            path.pop();
            found
        }
        (Value::Array(old), Value::Array(new)) => {
            // Lists are of one kind: every item has the shape of the first that was recorded.
            let first = old.first()?;
            for (nth, item) in new.iter().enumerate() {
                path.push(nth.to_string());
                let like = old.get(nth).unwrap_or(first);
                let found = walk(like, item, which, path);
                if found.is_some() {
                    return found;
                }
                path.pop();
            }
            None
        }
        // What may be absent says so by null.
        (Value::Null, _) | (_, Value::Null) => None,
        _ if kind(old) == kind(new) => None,
        _ => Some(format!(
            "{} is of the type {} instead of {}",
            paths::shown(path),
            kind(new),
            kind(old)
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}
