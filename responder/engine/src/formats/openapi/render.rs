//! Examples as bytes of a media type, and as text in a path, query or header.

use super::reference::Why;
use crate::formats::{node::Node, target::form_escape};

/// An example as the body of a message.
pub(super) fn body(media_type: &str, example: &Node) -> Result<String, Why> {
    let media_type = media_type.to_ascii_lowercase();
    if is_json(&media_type) {
        // People write JSON as text, too.
        return Ok(match example {
            Node::Text(text)
                if text.trim_start().starts_with(['{', '['])
                    && Node::json(text.as_bytes()).is_ok() =>
            {
                text.clone()
            }
            other => other.to_json(),
        });
    }
    if media_type.starts_with("application/x-www-form-urlencoded") && example.is_map() {
        let fields: Vec<String> = example
            .members()
            .iter()
            .map(|(name, value)| format!("{}={}", form_escape(name), form_escape(&plain(value))))
            .collect();
        return Ok(fields.join("&"));
    }
    example.scalar().map(std::borrow::Cow::into_owned).ok_or(Why::NotText)
}

/// Whether a media type is JSON, or anything at all.
pub(super) fn is_json(media_type: &str) -> bool {
    media_type.contains("json") || media_type.starts_with("*/*")
}

/// A value as text: lists by commas, objects as JSON.
pub(super) fn plain(value: &Node) -> String {
    match value {
        Node::List(items) => {
            let items: Vec<_> = items.iter().map(Node::word).collect();
            items.join(",")
        }
        Node::Map(_) => value.to_json(),
        other => other.word().into_owned(),
    }
}
