//! The documentation holds what it says: every command on its pages is run, every document on them is read, every link leads somewhere, every
//! stable code is explained, and the reference is what the contract says.

mod codes;
mod commands;
mod documents;
mod examples;
mod links;
mod pipelines;
mod prose;
mod reference;

use std::path::{Path, PathBuf};

use harness::pages;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every page that is for users, by its path: the README, the book, and what lies beside the examples.
fn pages() -> Vec<(String, String)> {
    let root = root();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut all = vec![("README.md".to_owned(), readme)];
    for dir in ["docs", "deploy"] {
        all.extend(pages::below(&root, dir).unwrap());
    }
    assert!(all.len() > 30, "the pages are found");
    all
}
