//! `docs/operations.md` shows what `--help` prints. `UPDATE_DOCS=1 cargo test` writes it anew.

use std::{fs, path::Path};

use harness::process;

const TABLE: [(&str, &[&str]); 13] = [
    ("countersign-control-plane", &["--help"]),
    ("countersign-responder", &["--help"]),
    ("countersign-operator", &["--help"]),
    ("countersign", &["dev", "--help"]),
    ("countersign", &["record", "--help"]),
    ("countersign", &["load", "--help"]),
    ("countersign", &["snapshot", "export", "--help"]),
    ("countersign", &["certs", "init", "--help"]),
    ("countersign", &["certs", "issue", "--help"]),
    ("countersign", &["store", "gc", "--help"]),
    ("countersign", &["store", "scrub", "--help"]),
    ("countersign", &["store", "backup", "--help"]),
    ("countersign", &["store", "restore", "--help"]),
];

#[test]
fn settings_are_documented_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let document = fs::read_to_string(&path).unwrap();
    let mut fresh = document.clone();
    for (binary, arguments) in TABLE {
        let title = [&[binary], arguments].concat().join(" ").replace(" --help", "");
        let heading = format!("### {title}\n\n```text\n");
        let (head, rest) =
            fresh.split_once(&heading).unwrap_or_else(|| panic!("no section {title}"));
        let (_, tail) = rest.split_once("```").unwrap();
        let help = process::run(binary, arguments).ok().stdout();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        fresh = format!("{head}{heading}{}\n```{tail}", help.join("\n").trim_end());
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, fresh).unwrap();
    } else {
        assert!(
            document == fresh,
            "docs/operations.md differs from --help: run UPDATE_DOCS=1 cargo test -p countersign-tests"
        );
    }
}
