//! The house rules that no compiler checks.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use harness::shared_data;

/// A file may have this many lines before its tests; tables are excepted by name.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the project with this end, by its path, whether committed yet or not.
pub(crate) fn tracked(suffix: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    walk(&root(), "", &mut |path, bytes| {
        if path.ends_with(suffix)
            && let Ok(text) = String::from_utf8(bytes)
        {
            files.push((path.to_owned(), text));
        }
    });
    files
}

fn walk(dir: &Path, under: &str, found: &mut impl FnMut(&str, Vec<u8>)) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{under}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir()
            && !["target", ".git", "node_modules"].contains(&&*entry.file_name().to_string_lossy())
        {
            walk(&entry.path(), &format!("{path}/"), found);
        } else if kind.is_file() {
            found(&path, fs::read(entry.path()).unwrap());
        }
    }
}

/// Puts a word together, so that this file does not hold what it looks for.
fn word(parts: &[&str]) -> String {
    parts.concat()
}

#[test]
fn every_file_says_what_it_owns() {
    let files = tracked(".rs");
    assert!(files.len() > 50, "the sources are found");
    for (path, text) in files {
        assert!(text.starts_with("//!"), "{path} does not open with //!");
    }
}

#[test]
fn files_stay_small() {
    for (path, text) in tracked(".rs") {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= MAX_LINES, "{path} has {lines} lines");
    }
}

#[test]
fn nothing_is_left_open() {
    let banned = [
        word(&["todo", "!("]),
        word(&["unimplemented", "!("]),
        word(&["#[", "ignore"]),
        word(&["FIX", "ME"]),
        word(&["thread::", "sleep"]),
        word(&["time::", "sleep("]),
    ];
    for (path, text) in tracked(".rs") {
        for (line, content) in text.lines().enumerate() {
            // Production code may wait, for example before it tries again; tests may not.
            let is_test = path.contains("tests/") || path.ends_with("tests.rs");
            let waits = content.contains("sleep") && !is_test;
            assert!(
                waits || !banned.iter().any(|word| content.contains(word)),
                "{path}:{}: {content}",
                line + 1
            );
        }
    }
}

#[test]
fn no_machine_and_no_recording_of_others_is_in_the_repository() {
    let banned = [word(&["/wo", "rk/"]), word(&["sim_user", "_"]), word(&["load-135", "@"])];
    for suffix in [".rs", ".md", ".toml", ".json", ".jsonl", ".proto", "run"] {
        for (path, text) in tracked(suffix) {
            assert!(!banned.iter().any(|word| text.contains(word)), "{path}");
        }
    }
}

#[test]
fn no_file_is_a_copy_of_a_recording_at_hand() {
    let mut theirs = HashSet::new();
    let Some(first) = shared_data("sessions-demo") else { return };
    walk(first.parent().unwrap(), "", &mut |_, bytes| {
        theirs.insert(bytes);
    });
    assert!(theirs.len() > 100, "the recordings are found");
    walk(&root(), "", &mut |path, bytes| {
        assert!(bytes.is_empty() || !theirs.contains(&bytes), "{path} is a file of others");
    });
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut links = 0;
    for (path, text) in tracked(".md") {
        let dir = root().join(&path).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                links += 1;
                assert!(dir.join(target).exists(), "{path} links to {target}, which is not there");
            }
        }
    }
    assert!(links > 3, "{links} links");
}

#[test]
fn log_lines_begin_small_and_end_without_a_full_stop() {
    let calls = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    for (path, text) in tracked(".rs") {
        let lines = text.lines().filter(|line| {
            line.contains("tracing::") && calls.iter().any(|call| line.contains(call))
        });
        for line in lines {
            let Some(message) = line.rsplit('"').nth(1) else { continue };
            let small = message.chars().next().is_none_or(|first| !first.is_uppercase());
            assert!(small && !message.ends_with('.'), "{path}: {line}");
        }
    }
}
