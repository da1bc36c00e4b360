//! The package graph of docs/ARCHITECTURE.md, and what must not be in the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::tidy::tracked;

/// Where wire types may appear, besides tests: a prefix of a path.
const WIRE: [&str; 12] = [
    "responder/engine/src/snapshot/chunk.rs",
    "responder/engine/src/snapshot/wire",
    "responder/src/api",
    "responder/src/fetch.rs",
    "responder/src/report/send.rs",
    "responder/src/sequence",
    "responder/src/subscription",
    "control-plane/src/service",
    "control-plane/cli/src",
    "control-plane/operator/src/plane.rs",
    "proto/",
    "tests/",
];

/// Where `jsonwebtoken` may be named, besides tests. The demo is a client that verifies what it got.
const DOOR: [&str; 3] =
    ["responder/engine/src/jwt", "control-plane/cli/src/command/demo", "tests/"];

/// Crates that are in the tree in several versions, because others need them so. None of ours asks for two.
const TWICE: [&str; 19] = [
    "base64",
    "const-oid",
    "crypto-common",
    "digest",
    "fallible-iterator",
    "foldhash",
    "getrandom",
    "hashbrown",
    "nom",
    "prettyplease",
    "quick-xml",
    "r-efi",
    "rand_core",
    "syn",
    "synstructure",
    "tower-http",
    "unicode-width",
    "untrusted",
    "wasi",
];

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
        ("countersign-tls", &[]),
        ("countersign-probe", &[]),
        ("countersign-engine", &["countersign-proto"]),
        ("countersign-responder", &["countersign-proto", "countersign-tls", "countersign-engine"]),
        (
            "countersign-control-plane",
            &["countersign-proto", "countersign-tls", "countersign-engine"],
        ),
        ("countersign-load", &["countersign-proto", "countersign-engine"]),
        // A client of both APIs. The command applies its resources.
        ("countersign-operator", &["countersign-proto", "countersign-tls"]),
        (
            "countersign-cli",
            &[
                "countersign-proto",
                "countersign-tls",
                "countersign-engine",
                "countersign-responder",
                "countersign-control-plane",
                "countersign-load",
                "countersign-operator",
            ],
        ),
        (
            "countersign-tests",
            &[
                "countersign-proto",
                "countersign-tls",
                "countersign-engine",
                "countersign-responder",
                "countersign-control-plane",
                "countersign-load",
                "countersign-operator",
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

#[test]
fn crates_come_from_one_registry_and_once() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--locked"])).unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap());
        let ours = package["source"].is_null() && name.starts_with("countersign-");
        let registry = package["source"].as_str().is_some_and(|from| {
            from.starts_with("registry+https://github.com/rust-lang/crates.io-index")
        });
        assert!(ours || registry, "{name} comes from {}", package["source"]);
    }
    let twice = versions.iter().filter(|(_, all)| all.len() > 1);
    for (name, all) in twice.filter(|(name, _)| !name.starts_with("windows")) {
        assert!(TWICE.contains(name), "{name} is there in versions {all:?}");
    }
}

#[test]
fn wire_types_and_the_token_library_stay_at_their_doors() {
    for (word, doors) in [("countersign_proto", &WIRE[..]), ("jsonwebtoken", &DOOR)] {
        let mut named = 0;
        for (path, text) in tracked(".rs") {
            let production = text.split("#[cfg(test)]").next().unwrap_or_default();
            let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
            // Doc comments may name it.
            let uses = production.lines().any(|line| {
                !line.trim_start().starts_with("//") && line.contains(&format!("{word}::"))
            });
            if uses && !is_test {
                named += 1;
                assert!(
                    doors.iter().any(|door| path.starts_with(door)),
                    "{path} uses {word}, which has its places: {doors:?}"
                );
            }
        }
        assert!(named > 0, "{word} is found at all");
    }
}
