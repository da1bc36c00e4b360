//! Templates, test configs, redaction configs and recordings on pages are what the product reads, without an error or an unknown field.

use std::collections::BTreeMap;

use countersign_engine::{
    diagnostic::{Diagnostic, Severity},
    dlp::DlpConfig,
    formats::{FileReader, Sink},
    snapshot::RrPair,
    test_config::TestConfig,
    transform::Template,
};
use harness::pages::{self, What};
use serde_json::{Value, json};

/// What a document is, by its members.
fn kind(value: &Value) -> &'static str {
    let has = |name: &str| value.get(name).is_some();
    let chains = |name: &str| value.get(name).is_some_and(Value::is_array);
    if has("http") {
        "pair"
    } else if chains("responder") || chains("generator") {
        "template"
    } else if has("extractor") {
        "chain"
    } else if has("type") && has("config") {
        "step"
    } else if ["extends", "keys", "jsonPaths", "patterns"].iter().any(|name| has(name))
        && !has("jwks")
        && !value["keys"][0]["kty"].is_string()
    {
        "redaction"
    } else if has("id")
        && ["responder", "chaos", "generator", "cluster", "rules"].iter().any(|name| has(name))
    {
        "test config"
    } else {
        "other"
    }
}

#[derive(Default)]
struct Pairs(usize, Vec<Diagnostic>);

impl Sink for Pairs {
    fn pair(&mut self, _pair: RrPair) {
        self.0 += 1;
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.1.push(why);
    }

    fn refused(&mut self, why: Diagnostic) {
        self.1.push(why);
    }
}

/// What the product says against a document, as far as that is more than worth knowing.
fn against(kind: &str, value: &Value) -> Vec<Diagnostic> {
    let text = value.to_string();
    let found = match kind {
        "template" => Template::parse(text.as_bytes()).1.into_vec(),
        "chain" => against("template", &json!({"id": "t", "responder": [value]})),
        "step" => against(
            "chain",
            &json!({"extractor": {"type": "http_res_body"}, "transforms": [value]}),
        ),
        "test config" => match TestConfig::parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(found) => found,
        },
        "redaction" => DlpConfig::parse(text.as_bytes()).1.into_vec(),
        "pair" => {
            let mut pairs = Pairs::default();
            let mut reader = FileReader::new("page.jsonl", &mut pairs);
            reader.push(text.as_bytes());
            reader.finish();
            pairs.1
        }
        _ => Vec::new(),
    };
    found.into_iter().filter(|found| found.severity >= Severity::Warning).collect()
}

/// The documents of a text: one, or one a line.
fn values(text: &str) -> Result<Vec<Value>, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(vec![value]),
        Err(why) => text
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|_| why.to_string()))
            .collect(),
    }
}

#[test]
fn documents_on_pages_are_what_the_product_reads() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, text) in super::pages() {
        for step in pages::read(&name, &text).unwrap().steps {
            let at = format!("{name}:{}", step.line);
            let text = match step.what {
                What::Document { language, text } if language == "json" => text,
                What::File { name, text }
                    if name.ends_with(".json") || name.ends_with(".jsonl") =>
                {
                    text
                }
                What::Document { language, text } if language == "yaml" => {
                    if let Err(why) = serde_saphyr::from_multiple::<Value>(&text) {
                        wrong.push(format!("{at}: {why}"));
                    }
                    continue;
                }
                _ => continue,
            };
            match values(&text) {
                Err(why) => wrong.push(format!("{at}: {why}")),
                Ok(values) => {
                    for value in values {
                        let kind = kind(&value);
                        *seen.entry(kind).or_default() += 1;
                        let found = against(kind, &value);
                        // A page may show what is wrong, and has to say so.
                        if value["id"] == "wrong" {
                            assert!(!found.is_empty(), "{at} is not wrong");
                            continue;
                        }
                        wrong.extend(found.iter().map(|found| format!("{at}: {kind}: {found}")));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in ["template", "chain", "step", "test config", "redaction", "pair"] {
        assert!(seen.contains_key(kind), "there is a {kind} on a page: {seen:?}");
    }
}

#[test]
fn a_document_that_is_wrong_is_found_out() {
    for (expected, value) in [
        (
            "template",
            json!({"id": "t", "responder": [{"extractor": {"type": "http_res_body"}, "transforms": [{"type": "json_path", "config": {"pfad": "a"}}]}]}),
        ),
        ("step", json!({"type": "jwt_resign", "config": {"secretPfad": "/x"}})),
        ("test config", json!({"id": "t", "chaos": {"rules": ["status=999"]}})),
        ("redaction", json!({"extends": "standart"})),
        ("pair", json!({"http": {"req": 7}})),
    ] {
        assert_eq!(kind(&value), expected, "{value}");
        assert!(!against(expected, &value).is_empty(), "{value}");
    }
}
