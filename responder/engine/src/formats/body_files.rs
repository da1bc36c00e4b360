//! Bodies that lie in files of their own, in WireMock's directory `__files`, and the pairs that wait for them.
//!
//! A file may serve many pairs. Files and pairs may come in any order; what is kept is bounded.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        Sink,
        reader::tell,
        verdict::{self, Left},
        wiremock,
    },
    snapshot::RrPair,
};

/// The directory that body files lie in.
const DIRECTORY: &str = "__files";
/// The most bytes that files may hold.
const MAX_KEPT: usize = 256 * 1024 * 1024;
/// The most pairs that may wait.
const MAX_WAITING: usize = 100_000;

/// Whether a file is a body and nothing else, whatever it looks like.
pub(super) fn is_body_file(path: &str) -> bool {
    let mut parts = path.split(['/', '\\']).rev();
    parts.next();
    parts.any(|part| part == DIRECTORY)
}

/// The key of a file called `name`, asked for by the mappings at `path`; `None` when the name leads elsewhere. The directory lies beside
/// `mappings`, or beside the file where there is no such directory.
pub(super) fn key(path: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split(['/', '\\']).collect();
    parts.pop();
    if let Some(mappings) = parts.iter().rposition(|part| *part == "mappings") {
        parts.truncate(mappings);
    }
    parts.push(DIRECTORY);
    for part in name.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return None;
        }
        parts.push(part);
    }
    Some(parts.join("/"))
}

/// The key of the file at `path` itself.
pub(super) fn own_key(path: &str) -> String {
    path.replace('\\', "/")
}

/// A pair whose body is still to come.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pair: RrPair,
    pub(super) templated: bool,
    /// The file of the mapping, the line and the place in it.
    pub(super) path: String,
    pub(super) line: u32,
    pub(super) place: String,
}

/// What is kept while an import goes on.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: BTreeMap<String, File>,
    bytes: usize,
    waiting: BTreeMap<String, Vec<Waiting>>,
    number_waiting: usize,
}

#[derive(Debug)]
struct File {
    path: String,
    content: Bytes,
    used: bool,
}

impl Shelf {
    /// Takes a file; pairs that waited for it go to the sink.
    pub(super) fn file<S: Sink + ?Sized>(
        &mut self,
        key: String,
        path: &str,
        content: Bytes,
        sink: &mut S,
    ) {
        if self.bytes.saturating_add(content.len()) > MAX_KEPT {
            let limit = MAX_KEPT / (1024 * 1024);
            return tell(
                sink,
                path,
                0,
                verdict::limit(format!("the files in `__files` are larger than {limit} MiB")),
            );
        }
        self.bytes = self.bytes.saturating_add(content.len());
        let waiting = self.waiting.remove(&key).unwrap_or_default();
        let used = !waiting.is_empty();
        self.number_waiting = self.number_waiting.saturating_sub(waiting.len());
        for waiting in waiting {
            sink.unpacked(&waiting.path);
            deliver(waiting, content.clone(), sink);
            sink.unpacked(path);
        }
        self.files.insert(key, File { path: path.to_owned(), content, used });
    }

    /// Takes a pair; it goes to the sink at once when its file is there.
    pub(super) fn pair<S: Sink + ?Sized>(&mut self, key: String, waiting: Waiting, sink: &mut S) {
        if let Some(file) = self.files.get_mut(&key) {
            file.used = true;
            return deliver(waiting, file.content.clone(), sink);
        }
        if self.number_waiting >= MAX_WAITING {
            let left = verdict::limit("too many mappings wait for their body file".to_owned());
            return tell(sink, &waiting.path, waiting.line, left.within(&waiting.place));
        }
        self.number_waiting = self.number_waiting.saturating_add(1);
        self.waiting.entry(key).or_default().push(waiting);
    }

    /// Reports what waits in vain, and what nobody asked for.
    pub(super) fn finish<S: Sink + ?Sized>(self, sink: &mut S) {
        for waiting in self.waiting.into_values().flatten() {
            tell(sink, &waiting.path, waiting.line, missing().within(&waiting.place));
        }
        for file in self.files.into_values().filter(|file| !file.used) {
            sink.noted(unused(&file.path));
        }
    }
}

/// What is said of a file that nobody asked for.
pub(super) fn unused(path: &str) -> Diagnostic {
    Diagnostic::info("body_file_unused", "", "no mapping asks for this file").subject(path)
}

/// What is said of a pair whose file never came.
pub(super) fn missing() -> Left {
    Left::refused("body_file_missing", "response.bodyFileName", "the file of the body is not there")
        .hint("import the directory or archive that holds both `mappings` and `__files`")
}

fn deliver<S: Sink + ?Sized>(waiting: Waiting, content: Bytes, sink: &mut S) {
    match wiremock::fill(waiting.pair, content, waiting.templated) {
        Ok(pair) => sink.pair(pair),
        Err(left) => tell(sink, &waiting.path, waiting.line, left.within(&waiting.place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_directory() {
        for (path, expected) in [
            ("a/__files/x.json", true),
            ("__files/sub/x", true),
            ("a\\__files\\x.md", true),
            ("a/__files", false),
            ("a/files/x.json", false),
        ] {
            assert_eq!(is_body_file(path), expected, "{path}");
        }
    }

    #[test]
    fn keys_lead_from_mappings_to_files() {
        for (path, name, expected) in [
            ("w/mappings/a.json", "b.json", Some("w/__files/b.json")),
            ("w/mappings/sub/a.json", "sub/b.json", Some("w/__files/sub/b.json")),
            ("w\\mappings\\a.json", "/./b.json", Some("w/__files/b.json")),
            ("w/all.json", "b.json", Some("w/__files/b.json")),
            ("mappings.json", "b.json", Some("__files/b.json")),
            ("/x/mappings/a.json", "b", Some("/x/__files/b")),
            ("w/mappings/a.json", "../secret", None),
        ] {
            assert_eq!(key(path, name).as_deref(), expected, "{path} {name}");
        }
        assert_eq!(own_key("w\\__files\\b.json"), "w/__files/b.json");
    }
}
