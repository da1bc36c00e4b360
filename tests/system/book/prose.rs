//! Commands that stand within a sentence name what there is: subcommands and flags, as `--help` tells them.

use std::collections::{BTreeMap, BTreeSet};

use harness::process;

const BINARIES: [&str; 4] =
    ["countersign", "countersign-control-plane", "countersign-responder", "countersign-operator"];

/// What stands between single backticks outside of blocks, on one line.
fn spans(text: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// The words of a flag: what stands before `=` or a comma.
fn flag(word: &str) -> Option<&str> {
    let word = word.split(['=', ',', '|', ';']).next().unwrap_or_default();
    let bare = word.strip_prefix("--")?;
    let is =
        bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (bare.len() > 1 && is).then_some(word)
}

/// Help texts, each asked for once.
#[derive(Default)]
struct Help(BTreeMap<Vec<String>, Option<String>>);

impl Help {
    /// The help of a command, if there is such a command.
    fn of(&mut self, command: &[String]) -> Option<&str> {
        let asked = self.0.entry(command.to_vec()).or_insert_with(|| {
            let (binary, rest) = command.split_first()?;
            let finished = process::run(binary, rest.iter().cloned().chain(["--help".to_owned()]));
            (finished.code() == 0).then(|| finished.stdout())
        });
        asked.as_deref()
    }

    /// What is wrong with a command in a sentence.
    fn against(&mut self, span: &str) -> Option<String> {
        let words: Vec<&str> = span.split_whitespace().collect();
        let (binary, rest) = words.split_first()?;
        let mut command = vec![(*binary).to_owned()];
        for word in rest {
            let there = self.of(&command)?;
            let listed = there.lines().any(|line| line.split_whitespace().next() == Some(*word));
            let takes = there.contains("Commands:");
            if !takes || word.starts_with('-') {
                break;
            }
            if !listed {
                let placeholder = word.chars().any(|c| c.is_uppercase() || c == '…');
                return (!placeholder).then(|| format!("`{}` has no `{word}`", command.join(" ")));
            }
            command.push((*word).to_owned());
        }
        let help = self.of(&command)?.to_owned();
        let unknown = words.iter().filter_map(|word| flag(word)).find(|flag| !has(&help, flag));
        unknown.map(|flag| format!("`{}` has no {flag}", command.join(" ")))
    }
}

/// Whether a help text lists a flag.
fn has(help: &str, flag: &str) -> bool {
    help.match_indices(flag).any(|(at, _)| {
        let next = help.get(at + flag.len()..).and_then(|rest| rest.chars().next());
        next.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-')
    })
}

/// Pages that are written from elsewhere, or tell of other times.
const OTHERS: [&str; 3] = ["docs/CHANGELOG.md", "docs/BENCHMARKS.md", "docs/operations.md"];

#[test]
fn commands_in_sentences_name_what_there_is() {
    let mut help = Help::default();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (name, text) in super::pages().iter().filter(|(name, _)| !OTHERS.contains(&&**name)) {
        for span in spans(text) {
            let binary = span.split_whitespace().next().unwrap_or_default();
            if BINARIES.contains(&binary) && seen.insert(span.clone()) {
                wrong.extend(help.against(&span).map(|why| format!("{name}: `{span}`: {why}")));
            }
        }
    }
    assert!(seen.len() > 40, "commands are found: {}", seen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_that_is_not_there_is_found_out() {
    let mut help = Help::default();
    for good in [
        "countersign dev ./x --transform t.json",
        "countersign snapshot import",
        "countersign store backup DIR --meta …",
    ] {
        assert_eq!(help.against(good), None);
    }
    for bad in [
        "countersign snapshot improt",
        "countersign dev x --tranform t",
        "countersign-responder --listenn x",
    ] {
        assert!(help.against(bad).is_some(), "{bad}");
    }
}
