//! Every stable code that shipped code can say is explained on the page that people look for it on.
//!
//! Codes are made in many places, so the sources are searched: a literal of words with underscores is a code, unless `names.txt` has it among the
//! names of other things. A new code is thus found before anybody meets it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy;

/// Names by how they begin: variables, metrics, enums of the contract.
const FAMILIES: [&str; 9] = [
    "COUNTERSIGN_",
    "CARGO_",
    "AWS_",
    "HELM_",
    "REQ_FILTER_",
    "PROTOBUF_",
    "RRPAIR_SOURCE",
    "ROOT_",
    "countersign_",
];

/// Calls whose first argument is a code, of however many words.
const CALLS: [&str; 11] = [
    "Left::refused(",
    "Left::skipped(",
    "Diagnostic::error(",
    "Diagnostic::warning(",
    "Diagnostic::info(",
    "StepError::new(",
    "Finding::new(",
    "Wrong::new(",
    ".problem(",
    ".note(",
    "reason: ",
];

/// The literals of a source, without its tests.
fn literals(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let shipped = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    for call in CALLS {
        for rest in shipped.split(call).skip(1) {
            let quoted =
                rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            let is_word = |text: &&str| {
                !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            };
            found.extend(quoted.filter(is_word).map(str::to_owned));
        }
    }
    for (nth, text) in shipped.split('"').enumerate() {
        let words = text.split('_').collect::<Vec<_>>();
        let is = |kind: fn(&u8) -> bool| {
            words.len() > 1
                && words.iter().all(|word| {
                    !word.is_empty()
                        && word.bytes().all(|byte| kind(&byte) || byte.is_ascii_digit())
                })
        };
        let lower = is(u8::is_ascii_lowercase);
        let upper = is(u8::is_ascii_uppercase);
        if nth > 0 && (lower || upper) && !text.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(text.to_owned());
        }
    }
    found
}

/// The names of other things.
fn names() -> String {
    std::fs::read_to_string(super::root().join("tests/system/book/names.txt")).unwrap()
}

/// Where each code is said first.
fn said() -> BTreeMap<String, String> {
    let names = names();
    let names: BTreeSet<&str> =
        names.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let mut said = BTreeMap::new();
    for (path, source) in tidy::tracked(".rs") {
        let shipped =
            path.contains("/src/") && !path.contains("tests") && !path.ends_with("testing.rs");
        if !shipped {
            continue;
        }
        for literal in literals(&source) {
            let other = FAMILIES.iter().any(|family| literal.starts_with(family));
            if !other && !names.contains(&*literal) {
                said.entry(literal).or_insert_with(|| path.clone());
            }
        }
    }
    said
}

#[test]
fn every_stable_code_is_explained() {
    let said = said();
    for known in [
        "key_weak",
        "secret_missing",
        "no_recorded_response",
        "ROLE_NOT_ALLOWED",
        "SNAPSHOT_NOT_FOUND",
    ] {
        assert!(said.contains_key(known), "{known} is found in the sources");
    }
    let page = std::fs::read_to_string(super::root().join("docs/troubleshooting.md")).unwrap();
    let missing: Vec<_> = said
        .iter()
        .filter(|(code, _)| !page.contains(&format!("`{code}`")))
        .map(|(code, path)| format!("{code} ({path})"))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md does not explain these; what is no code belongs into tests/system/book/names.txt:\n{}",
        missing.join("\n")
    );
}

/// The first cells of a table whose first column is called so.
fn first_cells(page: &str, column: &str) -> Vec<String> {
    let head = format!("| {column} |");
    let rows = page.split(&head).skip(1).flat_map(|rest| {
        rest.lines().skip(2).take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    });
    rows.filter_map(|row| row.split('|').nth(1)).map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn messages_that_are_explained_are_said() {
    let page = std::fs::read_to_string(super::root().join("docs/troubleshooting.md")).unwrap();
    let cells = first_cells(&page, "message");
    let messages: Vec<&str> =
        cells.iter().filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`')).collect();
    assert!(messages.len() > 3, "{cells:?}");
    let sources = tidy::tracked(".rs");
    for message in messages {
        let parts: Vec<&str> = message.split('…').filter(|part| part.len() > 3).collect();
        let said = sources.iter().any(|(path, source)| {
            path.contains("/src/") && parts.iter().all(|part| source.contains(part.trim()))
        });
        assert!(said, "no source says `{message}`");
    }
}

#[test]
fn every_reason_of_a_condition_is_explained() {
    let sources = tidy::tracked(".rs");
    let (_, source) =
        sources.iter().find(|(path, _)| path.ends_with("operator/src/status.rs")).unwrap();
    let page = std::fs::read_to_string(super::root().join("docs/troubleshooting.md")).unwrap();
    let calls = ["Verdict::no(", "Verdict::unknown("];
    let mut reasons = BTreeSet::new();
    for call in calls {
        for rest in source.split(call).skip(1) {
            let quoted =
                rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            reasons.extend(quoted.map(str::to_owned));
        }
    }
    assert!(reasons.contains("SecretMissing") && reasons.len() > 10, "{reasons:?}");
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not explain {missing:?}");
}

#[test]
fn names_that_are_gone_leave_the_list() {
    let mut all = BTreeSet::new();
    for (path, source) in tidy::tracked(".rs") {
        if path.contains("/src/") {
            all.extend(literals(&source));
        }
    }
    let names = names();
    let gone: Vec<&str> = names
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !all.contains(*line))
        .collect();
    assert!(gone.is_empty(), "no source has these any more: {gone:?}");
}

#[test]
fn a_code_is_told_from_other_text() {
    let source = "StepError::new(\n \"word\", 1); x(\"a_code\", \"A_REASON\", \"one\", \"two words\", \"a_{b}\", \"_a\");\n#[cfg(test)]\nmod tests {\n\"not_shipped\"\n}\n";
    assert_eq!(literals(source).into_iter().collect::<Vec<_>>(), ["A_REASON", "a_code", "word"]);
}
