//! Variables of a collection and its folders: `{{name}}`.

use std::{borrow::Cow, collections::HashMap};

use crate::formats::node::Node;

/// A value may name further variables, so deep.
const MAX_DEPTH: usize = 8;
/// By so much putting in values may lengthen a text.
const MAX_GROWTH: usize = 1024 * 1024;

/// The variables of one level; those above are asked for what it does not define.
#[derive(Debug)]
pub(super) struct Variables<'n> {
    own: HashMap<&'n str, Cow<'n, str>>,
    above: Option<&'n Self>,
}

impl<'n> Variables<'n> {
    /// The variables of a list of `{key, value}`.
    pub(super) fn of(list: &'n Node, above: Option<&'n Self>) -> Self {
        let own = list
            .items()
            .iter()
            .filter(|variable| !variable.get("disabled").is_true())
            .filter_map(|variable| {
                let name = variable.get("key").text().or_else(|| variable.get("id").text())?;
                Some((name, variable.get("value").scalar()?))
            })
            .collect();
        Self { own, above }
    }

    fn get(&self, name: &str) -> Option<&str> {
        match self.own.get(name) {
            Some(value) => Some(value),
            None => self.above?.get(name),
        }
    }

    /// The text with every known variable put in. What nothing defines stays as it is.
    pub(super) fn resolve(&self, text: &str) -> String {
        let mut resolved = text.to_owned();
        let limit = text.len().saturating_add(MAX_GROWTH);
        for _ in 0..MAX_DEPTH {
            let Some(next) = self.once(&resolved, limit) else { break };
            resolved = next;
        }
        resolved
    }

    /// One round; nothing when there was nothing to put in, or too much.
    fn once(&self, text: &str, limit: usize) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        let mut changed = false;
        while let Some((before, name, after)) = next(rest) {
            out.push_str(before);
            match self.get(name.trim()) {
                Some(value) => {
                    out.push_str(value);
                    changed = true;
                }
                None => {
                    out.push_str("{{");
                    out.push_str(name);
                    out.push_str("}}");
                }
            }
            if out.len() > limit {
                return None;
            }
            rest = after;
        }
        out.push_str(rest);
        changed.then_some(out)
    }
}

/// What stands before the first variable, its name, and what stands behind it.
pub(super) fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    for (end, _) in text.match_indices("}}") {
        let part = text.get(from..end)?;
        // Of `{{{name}}` the inner braces count; JSON has many a `}}` of its own.
        if let Some(open) = part.rfind("{{")
            && let Some(name) = part.get(open.saturating_add(2)..)
            && !name.is_empty()
            && !name.contains(['{', '}', '"', '\n'])
        {
            let before = text.get(..from.saturating_add(open))?;
            return Some((before, name, text.get(end.saturating_add(2)..)?));
        }
        from = end;
    }
    None
}

/// Whether a text still names a variable.
pub(super) fn is_open(text: &str) -> bool {
    next(text).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_definition_counts() {
        let outer = Node::json(br#"[{"key":"a","value":"1"},{"id":"b","value":"{{a}}{{c}}"},{"key":"off","value":"x","disabled":true}]"#).unwrap();
        let inner = Node::json(br#"[{"key":"a","value":2}]"#).unwrap();
        let above = Variables::of(&outer, None);
        let below = Variables::of(&inner, Some(&above));
        for (text, resolved) in [
            ("{{a}}", "2"),
            ("x{{ b }}y", "x2{{c}}y"),
            ("{{off}} {{$guid}} {", "{{off}} {{$guid}} {"),
            ("{{{a}}}", "{2}"),
            ("{{", "{{"),
            (r#"{"x":{"y":{}}} {{a}}"#, r#"{"x":{"y":{}}} 2"#),
            ("", ""),
        ] {
            assert_eq!(below.resolve(text), resolved, "{text}");
        }
        assert_eq!(above.resolve("{{a}}"), "1");
    }

    #[test]
    fn growth_is_bounded() {
        let text = format!(r#"[{{"key":"a","value":"{}"}}]"#, "{{a}}".repeat(1000));
        let node = Node::json(text.as_bytes()).unwrap();
        assert!(Variables::of(&node, None).resolve("{{a}}").len() < 2 * MAX_GROWTH);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a ü]{0,30}") {
            let node = Node::json(br#"[{"key":"a","value":"{{{"}]"#).unwrap();
            Variables::of(&node, None).resolve(&text);
        }
    }
}
