//! The `type` and `config` that extractors and steps have alike.

use std::collections::BTreeMap;

use super::{Node, join, schema::Field};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A step's `type` and its `config`, whose keys are lower-cased and whose values are text.
pub(crate) struct Step<'a> {
    pub(crate) kind: &'a str,
    pub(crate) config: BTreeMap<String, String>,
}

impl<'a> Step<'a> {
    pub(crate) fn parse(node: &'a Node, path: &str, found: &mut Diagnostics) -> Option<Self> {
        if !node.is_object() {
            found.push(Diagnostic::error(
                "wrong_type",
                path,
                "a step is an object with `type` and `config`",
            ));
            return None;
        }
        let Some(kind) = node.get("type").and_then(Node::as_str).filter(|kind| !kind.is_empty())
        else {
            found.push(Diagnostic::error(
                "missing_field",
                join(path, "type"),
                "the step has no `type`",
            ));
            return None;
        };
        let mut config = BTreeMap::new();
        let mut sound = true;
        match node.get("config") {
            None | Some(Node::Null) => {}
            Some(Node::Object(members)) => {
                for (name, value) in members {
                    match value.to_text() {
                        Some(text) => drop(config.insert(name.to_ascii_lowercase(), text)),
                        None => {
                            sound = false;
                            let at = format!("{path}.config.{name}");
                            found.push(Diagnostic::error(
                                "wrong_type",
                                at,
                                "config values are strings",
                            ));
                        }
                    }
                }
            }
            Some(_) => {
                sound = false;
                found.push(Diagnostic::error(
                    "wrong_type",
                    join(path, "config"),
                    "`config` is an object of strings",
                ));
            }
        }
        sound.then_some(Self { kind, config })
    }

    /// A config value that must be there.
    pub(crate) fn required(
        &mut self,
        name: &str,
        path: &str,
        found: &mut Diagnostics,
    ) -> Option<String> {
        let value = self.config.remove(&name.to_ascii_lowercase());
        if value.is_none() {
            let at = format!("{path}.config.{name}");
            found.push(Diagnostic::error(
                "missing_field",
                at,
                format!("`{}` needs `{name}`", self.kind),
            ));
        }
        value
    }

    /// A config value with a default.
    pub(crate) fn optional(&mut self, name: &str) -> Option<String> {
        self.config.remove(&name.to_ascii_lowercase())
    }

    /// A number with a default.
    pub(crate) fn number(
        &mut self,
        name: &str,
        default: usize,
        path: &str,
        found: &mut Diagnostics,
    ) -> Option<usize> {
        let Some(text) = self.optional(name) else { return Some(default) };
        let number = text.trim().parse().ok();
        if number.is_none() {
            found.push(Diagnostic::error(
                "wrong_type",
                format!("{path}.config.{name}"),
                format!("`{name}` is a number from 0, not `{text}`"),
            ));
        }
        number
    }

    /// Text without placeholders: their presence is an error, because leaving them in place would change traffic in a way that nobody
    /// asked for.
    pub(crate) fn plain(value: String, at: &str, found: &mut Diagnostics) -> Option<String> {
        if value.contains("${{") {
            found.push(
                Diagnostic::error("unsupported_placeholder", at, "placeholders mean nothing here")
                    .hint("write the value itself"),
            );
            return None;
        }
        Some(value)
    }

    /// Reports config keys that nobody took; `known` are those that there are.
    pub(crate) fn finish(self, known: &[Field], path: &str, found: &mut Diagnostics) {
        let known: Vec<&str> = known.iter().map(|field| field.name).collect();
        for name in self.config.keys() {
            let at = format!("{path}.config.{name}");
            let message = format!("`{}` has no setting `{name}`; it is ignored", self.kind);
            let finding = Diagnostic::warning("unknown_field", at, message);
            found.push(if known.is_empty() { finding } else { finding.unknown_name(name, &known) });
        }
    }
}
