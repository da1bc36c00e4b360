//! Redacting XML and HTML: elements and attributes by name, everything by pattern. The text is not parsed, so that it may be damaged.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::{
    config::normal,
    value::{Edit, Pass},
};

/// An element with nothing but text: its name without prefix, and the text, bare or as CDATA.
static ELEMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?-u)<(?:[A-Za-z0-9_.-]+:)?([A-Za-z_][A-Za-z0-9_.-]*)(?:\s[^<>]*)?>\s*(?:<!\[CDATA\[([^\]<]*)\]\]>|([^<]*))\s*</",
    )
    .ok()
});

/// An attribute.
static ATTRIBUTE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?-u)\s(?:[A-Za-z0-9_.-]+:)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')"#,
    )
    .ok()
});

impl Pass<'_> {
    /// The edits of an XML text.
    pub(super) fn xml(&mut self, text: &[u8]) -> Vec<Edit> {
        let mut named: Vec<(Range<usize>, String, usize)> = Vec::new();
        let mut ignored = Vec::new();
        for regex in [&ELEMENT, &ATTRIBUTE].into_iter().filter_map(|regex| regex.as_ref()) {
            for found in regex.captures_iter(text) {
                let (Some(name), Some(value)) =
                    (found.get(1), found.get(2).or_else(|| found.get(3)))
                else {
                    continue;
                };
                let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
                let known = normal(&name);
                if let Some(rule) = self.config().keys.get(&known) {
                    named.push((value.range(), name, *rule));
                } else if self.config().ignore.contains(&known) {
                    ignored.push(value.range());
                }
            }
        }
        named.sort_by_key(|found| found.0.start);
        named.dedup_by(|later, kept| later.0.start < kept.0.end);
        let mut edits: Vec<Edit> = Vec::new();
        let mut left = ignored;
        for (span, name, rule) in named {
            let from = self.enter(&name);
            let value = text.get(span.clone()).unwrap_or_default();
            let inner = value.len() - value.trim_ascii_start().len();
            let own = self.named(rule, value.trim_ascii());
            left.push(span.clone());
            let start = span.start + inner;
            edits.extend(
                own.into_iter().map(|(span, new)| (start + span.start..start + span.end, new)),
            );
            self.leave(from);
        }
        left.extend(self.tokens(text));
        left.sort_by_key(|span| (span.start, span.end));
        left.dedup_by(|later, kept| later.start < kept.end);
        edits.extend(self.patterns(text, left));
        edits.sort_by_key(|edit| edit.0.start);
        edits
    }
}
