//! Reads users' recordings into [`RrPair`]s: RRPair JSON, JSON lines and markdown, and the files of other tools.
//!
//! A [`FileReader`] takes the bytes of one file as they arrive and hands every entry to its [`Sink`] as exactly one of: a pair, something
//! skipped, something refused. Nothing is lost without a word, and memory is bounded by [`MAX_ENTRY`], whatever the size of the file.

mod archive;
mod body_files;
mod compact;
mod document;
mod draft;
mod entry;
mod exchange;
mod fields;
mod foreign;
mod framing;
mod goreplay;
mod halves;
mod har;
mod hoverfly;
mod kind;
mod markdown_body;
mod markdown_head;
mod markdown_notes;
mod markdown_sections;
mod members;
mod message;
mod messages;
mod node;
mod openapi;
mod postman;
mod reader;
mod rrpair_json;
mod rrpair_markdown;
mod splitter;
mod target;
mod time;
mod verdict;
mod wiremock;
pub mod write;

use crate::{diagnostic::Diagnostic, formats::kind::Named, snapshot::RrPair};

pub use entry::Entry;
pub use framing::remark;
pub use halves::{Half, Joiner};
pub use reader::FileReader;

/// The largest entry that is read: one JSON value, or one markdown file.
pub const MAX_ENTRY: usize = 64 * 1024 * 1024;
/// The most header fields that one message may have.
pub(crate) const MAX_HEADERS: usize = 1000;

/// Takes what a file held, entry by entry.
pub trait Sink {
    /// An entry that can be read on its own. By default it is read at once.
    fn entry(&mut self, entry: Entry)
    where
        Self: Sized,
    {
        entry.read(self);
    }
    /// A recorded pair. The receiver assigns its ordinal.
    fn pair(&mut self, pair: RrPair);
    /// An entry that is well understood and cannot be served: another protocol, an event, a side file of a snapshot.
    fn skipped(&mut self, why: Diagnostic);
    /// An entry that should have been a pair and is none.
    fn refused(&mut self, why: Diagnostic);
    /// Something of a pair that was handed over is served otherwise than its file says. No entry of its own: it counts as nothing.
    fn noted(&mut self, _why: Diagnostic) {}
    /// What follows comes out of this file, which lies in an archive.
    fn unpacked(&mut self, _path: &str) {}
    /// Half an exchange, whose other half lies in another file. Who reads several files keeps it in a [`Joiner`].
    fn half(&mut self, half: Half) {
        self.skipped(half.lone());
    }
}

/// Whether a file of this name may hold recordings. Walkers of directories leave other files aside.
#[must_use]
pub fn is_recording(path: &str) -> bool {
    Named::of(path).is_some_and(|named| named.recording)
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::{Path, PathBuf},
    };

    use proptest::prelude::*;

    use super::{
        testing::{recordings_in, shared_data},
        *,
    };

    #[derive(Debug, Default)]
    pub(super) struct Seen {
        pub(super) pairs: Vec<RrPair>,
        pub(super) skipped: Vec<Diagnostic>,
        pub(super) refused: Vec<Diagnostic>,
        pub(super) noted: Vec<Diagnostic>,
        joiner: Joiner,
    }

    impl PartialEq for Seen {
        fn eq(&self, other: &Self) -> bool {
            (&self.pairs, &self.skipped, &self.refused, &self.noted)
                == (&other.pairs, &other.skipped, &other.refused, &other.noted)
        }
    }

    impl Seen {
        /// After the last file.
        pub(super) fn joined(mut self) -> Self {
            std::mem::take(&mut self.joiner).finish(&mut self);
            self
        }
    }

    impl Sink for Seen {
        fn pair(&mut self, pair: RrPair) {
            self.pairs.push(pair);
        }
        fn skipped(&mut self, why: Diagnostic) {
            self.skipped.push(why);
        }
        fn refused(&mut self, why: Diagnostic) {
            self.refused.push(why);
        }
        fn noted(&mut self, why: Diagnostic) {
            self.noted.push(why);
        }
        fn half(&mut self, half: Half) {
            let mut joiner = std::mem::take(&mut self.joiner);
            joiner.join(half, self);
            self.joiner = joiner;
        }
    }

    pub(super) fn read(path: &str, chunks: &[&[u8]]) -> Seen {
        let mut seen = Seen::default();
        let mut reader = FileReader::new(path, &mut seen);
        for chunk in chunks {
            reader.push(chunk);
        }
        reader.finish();
        seen
    }

    fn line(nth: usize) -> String {
        format!(
            r#"{{"msgType":"rrpair","uuid":"AAECAwQFBgcICQoLDA0ODw==","http":{{"req":{{"method":"GET","url":"/{nth}"}},"res":{{"statusCode":200,"body":"ü"}}}}}}"#
        )
    }

    const MARKDOWN: &str = "### REQUEST ###\n```\nGET http://a.test/ HTTP/1.1\n```\n\n### RESPONSE ###\n```\nHTTP/1.1 200 OK\n```\n";

    #[test]
    fn recordings_are_known_by_extension() {
        for (path, expected) in [
            ("a/b.md", true),
            ("b.JSON", true),
            ("c.jsonl", true),
            ("d.log", false),
            ("md", false),
            ("x.json/y", false),
            ("x.har", true),
            ("x.gor", true),
            ("x.zip", true),
            ("x.yaml", true),
            ("x.YML", true),
            ("d/Req1.txt", true),
            ("d/Res12.txt", true),
            ("d/notes.txt", false),
        ] {
            assert_eq!(is_recording(path), expected, "{path}");
        }
    }

    #[test]
    fn every_entry_ends_in_exactly_one_way() {
        let text = format!(
            "{}\n{{\"msgType\":\"event\"}}\n\n{{\"a\":1}}\n{}",
            line(1),
            line(2).get(..40).unwrap()
        );
        let seen = read("dir/raw.jsonl", &[text.as_bytes()]);
        assert_eq!(seen.pairs.len(), 1);
        assert_eq!(
            seen.skipped.iter().map(|d| (d.line, d.code)).collect::<Vec<_>>(),
            [(2, "not_a_pair")]
        );
        let refused: Vec<_> =
            seen.refused.iter().map(|d| (d.subject.as_str(), d.line, d.code)).collect();
        assert_eq!(
            refused,
            [("dir/raw.jsonl", 4, "not_a_recording"), ("dir/raw.jsonl", 5, "truncated")]
        );
    }

    #[test]
    fn the_kind_is_told_by_extension_then_content() {
        let array = format!("\u{feff}[\n{},\n{}\n]", line(1), line(2));
        for (path, text, pairs) in [
            ("a.json", array.as_str(), 2),
            ("a", &array, 2),
            ("a.jsonl", &array, 2),
            ("a.md", MARKDOWN, 1),
            ("a", MARKDOWN, 1),
        ] {
            let seen = read(path, &[text.as_bytes()]);
            assert_eq!(
                (seen.pairs.len(), seen.skipped.len(), seen.refused.len()),
                (pairs, 0, 0),
                "{path}: {seen:?}"
            );
        }
    }

    #[test]
    fn other_files_are_left_out_with_a_reason() {
        assert_eq!(read("m.json", &[br#"{"mappings":[]}"#]).skipped[0].code, "empty_file");
        assert_eq!(read("package.json", &[br#"{"name":"x"}"#]).skipped[0].code, "not_a_recording");
        assert_eq!(read("s/streams.jsonl", &[br#"{"id":"x"}{"id":"y"}"#]).skipped.len(), 2);
        assert_eq!(read("s/raw.jsonl", &[br#"{"id":"x"}"#]).refused[0].code, "not_a_recording");
        let after_a_pair = format!("{}{{}}", line(1));
        assert_eq!(read("a.json", &[after_a_pair.as_bytes()]).refused[0].code, "not_a_recording");
        assert_eq!(read("a.json", &[]).skipped[0].code, "empty_file");
        assert_eq!(read("a.md", &[b" "]).skipped[0].code, "empty_file");
        assert_eq!(read("a.jsonl", &[]), Seen::default());
        assert_eq!(
            read("a.jsonl", &[b"{\"http\":{},\"x\":\"\xff\"}"]).refused[0].code,
            "invalid_utf8"
        );
    }

    #[test]
    fn a_large_markdown_file_is_refused() {
        let megabyte = vec![b'x'; 1024 * 1024];
        let chunks: Vec<&[u8]> = (0..65).map(|_| megabyte.as_slice()).collect();
        assert_eq!(read("a.md", &chunks).refused[0].code, "limit_exceeded");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0_usize..900, 0..8), damage in proptest::option::of((0_usize..900, any::<u8>()))) {
            let mut text = format!("{}\n{}\r\n{}{}", line(1), line(2), line(3), line(4)).into_bytes();
            if let Some((at, byte)) = damage
                && let Some(place) = text.get_mut(at)
            {
                *place = byte;
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            for path in ["a.jsonl", "a.json", "a"] {
                prop_assert_eq!(read(path, &chunks), read(path, &[&text]));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in ".*") {
            for path in ["a.jsonl", "a.json", "a.md", "a", "a.har", "a.gor", "a.zip", "a.yaml", "a.txt", "Req1.txt"] {
                read(path, &[&bytes]);
                read(path, &[text.as_bytes()]);
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the recorded data are files")]
    fn read_folder(dir: &Path) -> Seen {
        let mut all = Seen::default();
        for file in recordings_in(dir) {
            let seen = read(&file.to_string_lossy(), &[&std::fs::read(&file).unwrap()]);
            all.pairs.extend(seen.pairs);
            all.skipped.extend(seen.skipped);
            all.refused.extend(seen.refused);
        }
        all
    }

    /// The keys of the recorded signature that are not what we compute from the recorded request, and those that we compute in addition.
    fn unlike(pair: &RrPair) -> Vec<String> {
        let request = pair.request.as_ref().unwrap();
        let unsigned = RrPair { signature: BTreeMap::default(), ..pair.clone() };
        let parts = crate::request::Parts::of_recorded(&unsigned);
        let computed = crate::signature::Signature::of(&parts, &[]);
        let mut computed: BTreeMap<String, Vec<u8>> =
            computed.entries().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        // Newer recorders sign each parameter by itself.
        if !pair.signature.contains_key("http:queryparams") && !request.query.is_empty() {
            computed.remove("http:queryparams");
            for (name, value) in crate::request::sorted_query(&request.query) {
                computed.insert(format!("http:queryparams:{name}"), value.into_bytes());
            }
        }
        let mut recorded: BTreeMap<String, Vec<u8>> =
            pair.signature.iter().map(|(key, value)| (key.clone(), value.to_vec())).collect();
        recorded.remove("instance");
        let keys: BTreeSet<&String> = computed.keys().chain(recorded.keys()).collect();
        let differ = |key: &&&String| computed.get(**key) != recorded.get(**key);
        keys.iter().filter(differ).map(|key| (*key).clone()).collect()
    }

    #[test]
    fn reads_every_recording_at_hand() {
        let Some(data) = shared_data() else { return };
        let mut exceptions = BTreeMap::new();
        for (folder, pairs, refused) in [
            ("sessions-demo", 1048, 0),
            ("node-auth", 18, 0),
            ("wiremock-export-demo", 8, 0),
            ("go-drift-demo", 80, 0),
            ("dlp-demo", 5, 0),
            ("transform-recommendations", 8, 0),
            ("xml", 1, 0),
        ] {
            let seen = read_folder(&data.join(folder));
            assert_eq!(
                (seen.pairs.len(), seen.refused.len()),
                (pairs, refused),
                "{folder}: {:?}",
                seen.refused
            );
            for pair in seen.pairs.iter().filter(|pair| pair.stub.is_none()) {
                if !pair.signature.is_empty() {
                    for key in unlike(pair) {
                        *exceptions.entry((folder, key)).or_insert(0) += 1;
                    }
                }
                assert!(pair.uuid.is_some() && pair.ts.is_some() && pair.duration > 0, "{folder}");
            }
        }
        // Recorded through a mapped port: the host that the client dialled, `localhost`, is signed, and not the upstream's.
        assert_eq!(exceptions, BTreeMap::from([(("go-drift-demo", "http:host".to_owned()), 40)]));
    }

    #[test]
    fn both_forms_of_a_recording_are_the_same_pair() {
        let Some(data) = shared_data() else { return };
        let files: Vec<PathBuf> = ["dlp-demo", "xml"]
            .into_iter()
            .flat_map(|dir| recordings_in(&data.join(dir)))
            .collect();
        let mut compared = 0;
        for file in
            files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        {
            let text = std::fs::read_to_string(file).unwrap();
            // Older recorders keep the whole pair in the internal section.
            let json = text.split_once("\njson: ").unwrap().1.lines().next().unwrap();
            if !json.contains("\"bodyBase64\":\"") {
                continue;
            }
            let mut pairs = read("a.md", &[text.as_bytes()]).pairs;
            pairs.extend(read("a.json", &[json.as_bytes()]).pairs);
            for pair in &mut pairs {
                let request = pair.request.as_mut().unwrap();
                for headers in [&mut request.headers, &mut pair.response.headers] {
                    headers.retain(|header| !header.name.eq_ignore_ascii_case("content-length"));
                }
            }
            assert_eq!(pairs[0], pairs[1], "{}", file.display());
            compared += 1;
        }
        assert_eq!(compared, 6);
    }
}
