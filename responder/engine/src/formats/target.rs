//! Request targets: path, query and version.

use crate::formats::fields::multimap;

/// The path and query of a request target, which may be absolute.
pub(super) fn split_target(target: &str) -> (&str, &str) {
    let target = match target.split_once("://") {
        Some((scheme, rest))
            if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    match target.split_once('?') {
        Some(("", query)) => ("/", query),
        Some((path, query)) => (path, query),
        None => (target, ""),
    }
}

/// A path or query as it goes over the wire: people and tools write down spaces and letters that no request line may hold.
pub(super) fn escape_target(text: &str) -> String {
    const ESCAPED: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');
    percent_encoding::utf8_percent_encode(text, ESCAPED).to_string()
}

/// The version as `1.0`, `1.1` or `2.0`.
pub(super) fn version(text: &str) -> String {
    let text = text.strip_prefix("HTTP/").unwrap_or(text);
    match text {
        "" | "http/1.1" | "unknown" => "1.1",
        "2" | "h2" | "http/2.0" | "http/2" => "2.0",
        "3" | "h3" | "http/3" => "3.0",
        "1" | "http/1.0" => "1.0",
        other => other,
    }
    .to_owned()
}

/// A query of the decoded parameters, sorted by name.
pub(super) fn query_of(raw: &str) -> Option<String> {
    let mut pairs = Vec::new();
    for (name, values) in multimap(raw)? {
        for value in values {
            pairs.push(format!("{}={}", form_escape(&name), form_escape(&value)));
        }
    }
    Some(pairs.join("&"))
}

/// Escapes a name or value of a form or query.
pub(super) fn form_escape(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'*')
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b' ');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string().replace(' ', "+")
}
