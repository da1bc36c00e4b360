//! The house rules that no compiler checks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A file may have this many lines before its tests; tables are excepted by name.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file that belongs to the project.
fn tracked(suffix: &str) -> Vec<(String, String)> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|path| path.ends_with(suffix))
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
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
        let is_tests = path.ends_with("tests.rs") || path.contains("/tests/");
        assert!(is_tests || text.starts_with("//!"), "{path} does not open with //!");
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
            let waits = content.contains("sleep") && !path.starts_with("tests/");
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
