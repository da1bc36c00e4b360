//! `docs/transform-examples.md` has an example of every extractor and step, with what the engine really makes of it. `UPDATE_DOCS=1 cargo test`
//! writes it anew from `examples.json`.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use countersign_engine::{
    diagnostic::{Diagnostic, Severity},
    formats::{FileReader, Sink},
    preview::{Preview, preview},
    snapshot::RrPair,
    transform::{Template, schema},
};
use serde_json::{Value, json};

/// The time at which the examples are: 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600_000_000_000;
const HEAD: &str = "<!-- Written by `UPDATE_DOCS=1 cargo test -p countersign-tests --test system -- examples` from tests/system/book/examples.json. -->

# Each with an example

Every extractor and every step of [transforms](transforms.md), with a template, and what becomes of a recorded pair: `-` is as it was recorded, `+` as it is served, or matched. The time is
2026-01-01T00:00:00Z. The pair, unless an example says otherwise:

";

#[derive(Default)]
struct First(Option<RrPair>, Vec<Diagnostic>);

impl Sink for First {
    fn pair(&mut self, pair: RrPair) {
        self.0.get_or_insert(pair);
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.1.push(why);
    }

    fn refused(&mut self, why: Diagnostic) {
        self.1.push(why);
    }
}

/// The pair of an example: the usual one, but for what the example says.
fn pair(usual: &Value, example: &Value) -> Result<RrPair, String> {
    let part = |side: &str| {
        let mut part = usual[side].clone();
        for (name, value) in example[side].as_object().into_iter().flatten() {
            part[name] = value.clone();
        }
        part
    };
    let (mut req, mut res) = (part("req"), part("res"));
    for message in [&mut req, &mut res] {
        if message["trailers"].is_null()
            && let Some(message) = message.as_object_mut()
        {
            message.remove("trailers");
        }
    }
    let line = json!({
        "msgType": "rrpair", "ts": "2024-03-05T09:00:00Z", "l7protocol": "http", "duration": 30, "direction": "OUT",
        "network_address": "api.example.com:443", "http": {"req": req, "res": res},
    });
    let mut first = First::default();
    let mut reader = FileReader::new("example.jsonl", &mut first);
    reader.push(line.to_string().as_bytes());
    reader.finish();
    first.0.ok_or_else(|| format!("{:?}", first.1))
}

/// A pair as one reads it.
fn shown(pair: &RrPair) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(request) = &pair.request {
        let query =
            if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        lines.push(format!("{} {}{query} HTTP/1.1", request.method, request.path));
        lines.extend(
            request
                .headers
                .iter()
                .map(|field| format!("{}: {}", field.name, String::from_utf8_lossy(&field.value))),
        );
        lines.push(String::new());
        lines.extend(String::from_utf8_lossy(&request.body).lines().map(str::to_owned));
    }
    lines.push(String::new());
    let response = &pair.response;
    lines.push(format!("HTTP/1.1 {}", response.status));
    lines.extend(
        response
            .headers
            .iter()
            .map(|field| format!("{}: {}", field.name, String::from_utf8_lossy(&field.value))),
    );
    lines.push(String::new());
    lines.extend(String::from_utf8_lossy(&response.body).lines().map(str::to_owned));
    lines
}

fn signature(preview: &Preview) -> Vec<String> {
    preview
        .signature
        .iter()
        .map(|(key, value)| format!("{key} is {}", String::from_utf8_lossy(value)))
        .collect()
}

/// What is only in one of the texts, in their order.
fn difference(before: &[String], after: &[String]) -> String {
    let mut out = String::new();
    let (mut left, mut right) = (before, after);
    loop {
        match (left.split_first(), right.split_first()) {
            (Some((a, more)), Some((b, others))) if a == b => (left, right) = (more, others),
            (Some((a, more)), _) if !right.contains(a) => {
                writeln!(out, "- {a}").unwrap();
                left = more;
            }
            (_, Some((b, others))) => {
                writeln!(out, "+ {b}").unwrap();
                right = others;
            }
            (Some((a, more)), None) => {
                writeln!(out, "- {a}").unwrap();
                left = more;
            }
            (None, None) => return out,
        }
    }
}

fn document() -> Value {
    let path = super::root().join("tests/system/book/examples.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Members of templates in the order in which one reads them.
const ORDER: [&str; 7] = ["name", "filters", "extractor", "transforms", "type", "config", "path"];

/// A document on one line.
fn on_a_line(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let place = |name: &str| ORDER.iter().position(|it| *it == name).unwrap_or(ORDER.len());
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| place(name));
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\": {}", on_a_line(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(on_a_line).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A template over as many lines as it has chains and steps.
fn laid_out(template: &Value) -> String {
    let mut out = "{\"id\": \"example\"".to_owned();
    for section in ["responderVariables", "responder"] {
        if let Some(parts) = template[section].as_array() {
            let parts: Vec<String> =
                parts.iter().map(|part| format!("  {}", on_a_line(part))).collect();
            write!(out, ", \"{section}\": [\n{}]", parts.join(",\n")).unwrap();
        }
    }
    out.push('}');
    out
}

/// The section of an example.
fn section(usual: &Value, example: &Value, wrong: &mut Vec<String>) -> String {
    let name = example["name"].as_str().unwrap_or_default();
    let mut template = json!({"id": "example", "responder": example["chains"]});
    if !example["variables"].is_null() {
        template["responderVariables"] = example["variables"].clone();
    }
    let (read, found) = Template::parse(template.to_string().as_bytes());
    wrong.extend(
        found
            .into_vec()
            .iter()
            .filter(|found| found.severity > Severity::Info)
            .map(|found| format!("{name}: {found}")),
    );
    let recorded = match pair(usual, example) {
        Ok(pair) => pair,
        Err(why) => {
            wrong.push(format!("{name}: {why}"));
            return String::new();
        }
    };
    let (plain, _) = Template::parse(br#"{"id": "example", "responder": []}"#);
    let (was, is) = (preview(&plain, &recorded, NOW), preview(&read, &recorded, NOW));
    for chain in &is.chains {
        if let Some((code, why)) = &chain.failure
            && example["fails"] != true
        {
            wrong.push(format!("{name}: {}: {code}: {why}", chain.path));
        }
    }
    if let Some(expected) = example["expects"].as_str() {
        let made = shown(&is.after).iter().any(|line| line.contains(expected));
        if !made {
            wrong.push(format!("{name}: {expected} is not in {:?}", shown(&is.after)));
        }
    }
    let mut changed = difference(&shown(&is.before), &shown(&is.after));
    changed += &difference(&signature(&was), &signature(&is));
    if is.before.duration != is.after.duration {
        writeln!(changed, "- takes {} ms\n+ takes {} ms", is.before.duration, is.after.duration)
            .unwrap();
    }
    let mut out = format!(
        "\n{}\n\n```json\n{}\n```\n",
        example["text"].as_str().unwrap_or_default(),
        laid_out(&template)
    );
    let varies = example["varies"].as_bool().unwrap_or_default();
    if varies || changed.is_empty() {
        let note = example["note"].as_str();
        if note.is_none() {
            wrong.push(format!("{name}: nothing changes, and no note says why"));
        }
        writeln!(out, "\n{}", note.unwrap_or_default()).unwrap();
    } else {
        writeln!(out, "\n```diff\n{changed}```").unwrap();
        if let Some(note) = example["note"].as_str() {
            writeln!(out, "\n{note}").unwrap();
        }
    }
    out
}

fn written() -> (String, Vec<String>) {
    let document = document();
    let usual = &document["usual"];
    let mut wrong = Vec::new();
    let mut out = HEAD.to_owned();
    let pair = pair(usual, &Value::Null).unwrap();
    writeln!(out, "```http\n{}\n```", shown(&pair).join("\n")).unwrap();
    let mut seen = BTreeSet::new();
    for (title, kinds) in [("Extractors", schema::extractors()), ("Steps", schema::steps())] {
        let key = title.to_lowercase();
        writeln!(out, "\n## {title}").unwrap();
        for kind in kinds {
            let title = if key == "extractors" && kind.name == "json_path" {
                "json_path, of a pair"
            } else {
                kind.name
            };
            writeln!(out, "\n### {title}\n\n{}.", kind.summary.trim_end_matches('.')).unwrap();
            if !kind.unsupported.is_empty() {
                writeln!(out, "\nNot in a responder: {}.", kind.unsupported.trim_end_matches('.'))
                    .unwrap();
                continue;
            }
            let examples = document[&*key]
                .as_array()
                .unwrap()
                .iter()
                .filter(|example| example["name"] == kind.name);
            let before = out.len();
            for example in examples {
                out.push_str(&section(usual, example, &mut wrong));
            }
            if out.len() == before {
                wrong.push(format!("there is no example of {} among the {key}", kind.name));
            }
            seen.insert((key.clone(), kind.name.to_owned()));
        }
    }
    for key in ["extractors", "steps"] {
        for example in document[key].as_array().unwrap() {
            let name = example["name"].as_str().unwrap_or_default().to_owned();
            if !seen.contains(&(key.to_owned(), name.clone())) {
                wrong.push(format!("there is no {name} among the {key}"));
            }
        }
    }
    (out, wrong)
}

#[test]
fn examples_of_transforms_are_what_the_engine_makes_of_them() {
    let (text, wrong) = written();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = super::root().join("docs/transform-examples.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, text).unwrap();
    } else {
        assert!(
            fs::read_to_string(path).unwrap_or_default() == text,
            "docs/transform-examples.md differs: run UPDATE_DOCS=1 cargo test -p countersign-tests --test system -- examples"
        );
    }
}
