//! What a template can be made of, for editors: every extractor, step and filter criterion with its settings.
//!
//! The kinds are those of the tables that read templates; what is said of their settings here is tested against these.

mod extractors;
mod steps;

use super::{extractor, filter, op};

/// A kind of extractor or step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Its name, the `type` in a template.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Where an extractor works: `request`, `response` or `path`, when its path tells. Empty for steps.
    pub side: &'static str,
    /// Why a responder does not run it; empty when it does.
    pub unsupported: &'static str,
    /// Its settings.
    pub fields: &'static [Field],
}

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in `config`.
    pub name: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// What may be written.
    pub input: Input,
    /// What it is when it is left out.
    pub default: &'static str,
    /// It has to be there.
    pub required: bool,
    /// It may hold placeholders.
    pub placeholders: bool,
}

/// What may be written into a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Any text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A regular expression.
    Regex,
    /// A path into a document.
    Path,
    /// A duration such as `250ms`.
    Duration,
    /// The place of a mounted key.
    Secret,
    /// Claims as `name=value`, separated by commas.
    Claims,
    /// A key itself, which should not stand in a template.
    Key,
}

impl Input {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Choice(_) => "choice",
            Self::Regex => "regex",
            Self::Path => "path",
            Self::Duration => "duration",
            Self::Secret => "secret",
            Self::Claims => "claims",
            Self::Key => "key",
        }
    }

    /// The values of a choice.
    #[must_use]
    pub fn choices(self) -> &'static [&'static str] {
        if let Self::Choice(choices) = self { choices } else { &[] }
    }
}

impl Field {
    const fn new(name: &'static str, input: Input, summary: &'static str) -> Self {
        Self { name, summary, input, default: "", required: false, placeholders: false }
    }

    const fn needed(self) -> Self {
        Self { required: true, ..self }
    }

    const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn filled(self) -> Self {
        Self { placeholders: true, ..self }
    }
}

/// What is said of a kind: its name, a sentence, its settings.
type Said = (&'static str, &'static str, &'static [Field]);

/// Every extractor, sorted by name.
#[must_use]
pub fn extractors() -> Vec<Kind> {
    let kinds = extractor::KINDS.iter().map(|kind| {
        let (summary, fields) = said(extractors::SAID, kind.name);
        let side = extractors::side(kind.name);
        Kind { name: kind.name, aliases: kind.aliases, summary, side, unsupported: "", fields }
    });
    kinds.collect()
}

/// Every step, sorted by name.
#[must_use]
pub fn steps() -> Vec<Kind> {
    let kinds = op::KINDS.iter().map(|kind| {
        let (summary, fields) = said(steps::SAID, kind.name);
        let unsupported = match kind.works {
            op::Works::Everywhere => "",
            op::Works::GeneratorOnly(why) | op::Works::Nowhere(why) => why,
        };
        Kind { name: kind.name, aliases: kind.aliases, summary, side: "", unsupported, fields }
    });
    kinds.collect()
}

/// The settings of a kind of extractor.
pub(super) fn extractor_fields(name: &str) -> &'static [Field] {
    said(extractors::SAID, name).1
}

/// The settings of a kind of step.
pub(super) fn step_fields(name: &str) -> &'static [Field] {
    said(steps::SAID, name).1
}

/// Every criterion of a filter: the member of a JSON filter, the keyword of a query, and whether a key goes with it.
#[must_use]
pub fn criteria() -> Vec<(&'static str, &'static str, bool)> {
    filter::criteria()
}

fn said(table: &'static [Said], name: &str) -> (&'static str, &'static [Field]) {
    table.iter().find(|row| row.0 == name).map_or(("", &[]), |row| (row.1, row.2))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::transform::Template;

    /// A value that a setting takes.
    fn sample(kind: &Kind, field: &Field) -> String {
        match (field.input, field.name) {
            (Input::Number, _) => "1".to_owned(),
            (Input::Boolean, _) => "true".to_owned(),
            (Input::Choice(choices), _) => choices.last().copied().unwrap_or_default().to_owned(),
            (Input::Duration, _) => "1s".to_owned(),
            (Input::Secret, _) => "a/b".to_owned(),
            (Input::Claims, _) => "a=1".to_owned(),
            (Input::Path, _) if kind.side == "path" => "http.res.body".to_owned(),
            (Input::Path, _) if kind.name == "xml_path" => "/a/b".to_owned(),
            (_, "field") if kind.name == "grpc_field" => "1".to_owned(),
            (_, "count") => "1".to_owned(),
            (_, "layout") => "epoch".to_owned(),
            (_, "matchAlg" | "alg") => "RS256".to_owned(),
            (_, "expiresIn") => "60".to_owned(),
            _ => "x".to_owned(),
        }
    }

    /// The codes of what is found in a template with one element of this config.
    fn codes(kind: &Kind, config: &Map<String, Value>) -> Vec<(String, String)> {
        let element = json!({"type": kind.name, "config": config});
        let other = if kind.side == "request" { "req_body" } else { "res_body" };
        let chain = if kind.side.is_empty() {
            json!({"extractor": {"type": other}, "transforms": [element]})
        } else {
            json!({"extractor": element, "transforms": []})
        };
        let template = json!({"id": "t", "responder": [chain]}).to_string();
        let (_, found) = Template::parse(template.as_bytes());
        found.into_vec().into_iter().map(|found| (found.code.to_owned(), found.path)).collect()
    }

    fn all() -> Vec<Kind> {
        let kinds = steps().into_iter().chain(extractors());
        kinds.filter(|kind| kind.unsupported.is_empty()).collect()
    }

    /// A config with each setting that has to be there.
    fn needed(kind: &Kind) -> Map<String, Value> {
        // The column is named in one of two ways.
        let needs = |field: &&Field| field.required || (kind.name, field.name) == ("csv", "index");
        let fields = kind.fields.iter().filter(needs);
        fields.map(|field| (field.name.to_owned(), sample(kind, field).into())).collect()
    }

    #[test]
    fn every_kind_is_described_and_nothing_else_is() {
        for kind in steps().iter().chain(&extractors()) {
            assert!(!kind.summary.is_empty(), "{} is not described", kind.name);
        }
        for (table, kinds) in [(steps::SAID, steps()), (extractors::SAID, extractors())] {
            assert_eq!(table.len(), kinds.len());
        }
        assert_eq!(criteria().len(), 26);
    }

    #[test]
    fn each_setting_is_one_that_the_engine_reads() {
        for kind in all() {
            for field in kind.fields {
                let mut config = needed(&kind);
                config.insert(field.name.to_owned(), sample(&kind, field).into());
                if (kind.name, field.name) == ("csv", "header") {
                    config.remove("index");
                    config.insert("hasHeader".to_owned(), "true".into());
                }
                let found = codes(&kind, &config);
                let wrong = found.iter().find(|(code, at)| {
                    code == "unknown_field" || (code == "wrong_type" && at.contains("config"))
                });
                assert_eq!(wrong, None, "{}.{}", kind.name, field.name);
            }
        }
    }

    #[test]
    fn what_has_to_be_there_is_asked_for_and_nothing_else_is() {
        for kind in all() {
            let missing = |config: &Map<String, Value>| {
                let found = codes(&kind, config);
                found.into_iter().any(|(code, _)| code == "missing_field" || code == "missing_key")
            };
            assert!(
                !missing(&needed(&kind)),
                "{} needs more: {:?}",
                kind.name,
                codes(&kind, &needed(&kind))
            );
            for field in kind.fields.iter().filter(|field| field.required) {
                let mut config = needed(&kind);
                config.remove(field.name);
                assert!(missing(&config), "{}.{} may be left out", kind.name, field.name);
            }
        }
    }

    #[test]
    fn a_setting_that_is_not_described_is_not_read() {
        for kind in all() {
            let mut config = needed(&kind);
            config.insert("no_such_setting".to_owned(), "x".into());
            let found = codes(&kind, &config);
            assert!(found.iter().any(|(code, _)| code == "unknown_field"), "{}", kind.name);
        }
    }
}
