//! The package graph of ARCHITECTURE.md, and what must not be in the tree.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = Command::new(env!("CARGO")).args(arguments).current_dir(root).output().unwrap();
    assert!(out.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Who may depend on which of our packages.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("countersign-proto", &[][..]),
        ("countersign-engine", &["countersign-proto"]),
        ("countersign-responder", &["countersign-proto", "countersign-engine"]),
        ("countersign-control-plane", &["countersign-proto", "countersign-engine"]),
        (
            "countersign-cli",
            &[
                "countersign-proto",
                "countersign-engine",
                "countersign-responder",
                "countersign-control-plane",
            ],
        ),
        (
            "countersign-tests",
            &[
                "countersign-proto",
                "countersign-engine",
                "countersign-responder",
                "countersign-control-plane",
            ],
        ),
    ])
}

#[test]
fn packages_depend_on_each_other_as_drawn() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), allowed.len(), "a new package needs a place in the graph");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(
                !on.starts_with("countersign-") || allowed[name].contains(&on),
                "{name} must not depend on {on}"
            );
        }
    }
}

#[test]
fn the_engine_knows_no_world() {
    let tree = cargo(&[
        "tree",
        "-p",
        "countersign-engine",
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p}",
    ]);
    for banned in ["tokio", "hyper", "tonic", "rusqlite", "tracing", "rustix", "socket2", "mio"] {
        let found = tree.lines().find(|line| line.split(' ').next() == Some(banned));
        assert_eq!(found, None, "below the engine");
    }
}

#[test]
fn there_is_one_provider_of_cryptography() {
    let tree =
        cargo(&["tree", "--workspace", "-e", "normal,build,dev", "--prefix", "none", "-f", "{p}"]);
    for banned in ["ring", "openssl", "openssl-sys", "rsa", "serde_yaml", "native-tls"] {
        let found = tree.lines().find(|line| line.split(' ').next() == Some(banned));
        assert_eq!(found, None, "in the tree");
    }
}
