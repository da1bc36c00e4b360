//! Reads users' recordings into [`RrPair`]s: RRPair JSON, JSON lines and markdown.
//!
//! A [`FileReader`] takes the bytes of one file as they arrive and hands every entry to its [`Sink`] as exactly one of: a pair, something
//! skipped, something refused. Nothing is lost without a word, and memory is bounded by [`MAX_ENTRY`], whatever the size of the file.

mod compact;
mod draft;
mod fields;
mod foreign;
mod markdown_body;
mod markdown_head;
mod markdown_notes;
mod markdown_sections;
mod rrpair_json;
mod rrpair_markdown;
mod splitter;
mod target;
mod time;
mod verdict;
pub mod write;

use crate::{
    diagnostic::Diagnostic,
    formats::{
        splitter::{Piece, Splitter},
        verdict::Left,
    },
    snapshot::RrPair,
};

/// The largest entry that is read: one JSON value, or one markdown file.
pub const MAX_ENTRY: usize = 64 * 1024 * 1024;
/// The most header fields that one message may have.
pub(crate) const MAX_HEADERS: usize = 1000;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Takes what a file held, entry by entry.
pub trait Sink {
    /// A recorded pair. The receiver assigns its ordinal.
    fn pair(&mut self, pair: RrPair);
    /// An entry that is well understood and cannot be served: another protocol, an event, a side file of a snapshot.
    fn skipped(&mut self, why: Diagnostic);
    /// An entry that should have been a pair and is none.
    fn refused(&mut self, why: Diagnostic);
}

/// Whether a file of this name may hold recordings. Walkers of directories leave other files aside.
#[must_use]
pub fn is_recording(path: &str) -> bool {
    Kind::of(path).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Markdown,
    Json,
    JsonLines,
}

impl Kind {
    fn of(path: &str) -> Option<Self> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let (_, extension) = name.rsplit_once('.')?;
        [("md", Self::Markdown), ("json", Self::Json), ("jsonl", Self::JsonLines)]
            .into_iter()
            .find(|(known, _)| extension.eq_ignore_ascii_case(known))
            .map(|(_, kind)| kind)
    }
}

/// Reads one file. Its kind is told by the extension, else by the first character.
#[derive(Debug)]
pub struct FileReader<'s, S: Sink> {
    sink: &'s mut S,
    path: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The extension says nothing and no telling byte has come yet.
    Undecided(Vec<u8>),
    Json(Entries),
    Markdown {
        text: Vec<u8>,
        oversize: bool,
    },
}

impl State {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Markdown => Self::Markdown { text: Vec::new(), oversize: false },
            Kind::Json => Self::Json(Entries::new(false)),
            Kind::JsonLines => Self::Json(Entries::new(true)),
        }
    }
}

impl<'s, S: Sink> FileReader<'s, S> {
    /// A reader of the file at `path`, which is only looked at for its extension and named in findings.
    pub fn new(path: &str, sink: &'s mut S) -> Self {
        let state = Kind::of(path).map_or_else(|| State::Undecided(Vec::new()), State::new);
        Self { sink, path: path.to_owned(), state }
    }

    /// Takes the next bytes of the file; entries that they complete go to the sink.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Undecided(seen) => {
                seen.extend_from_slice(bytes);
                if let Some(kind) = guess(seen) {
                    let seen = std::mem::take(seen);
                    self.state = State::new(kind);
                    self.push(&seen);
                } else if seen.len() > MAX_ENTRY {
                    self.state = State::Markdown { text: Vec::new(), oversize: true };
                }
            }
            State::Json(entries) => entries.push(bytes, &mut *self.sink, &self.path),
            State::Markdown { oversize: true, .. } => {}
            State::Markdown { text, oversize } => {
                if text.len().saturating_add(bytes.len()) > MAX_ENTRY {
                    *oversize = true;
                    *text = Vec::new();
                } else {
                    text.extend_from_slice(bytes);
                }
            }
        }
    }

    /// Says that the file has ended; what is still incomplete is refused.
    pub fn finish(self) {
        let Self { sink, path, state } = self;
        match state {
            State::Json(entries) => entries.finish(sink, &path),
            State::Markdown { oversize: true, .. } => tell(sink, &path, 1, verdict::too_large()),
            State::Markdown { text, .. } | State::Undecided(text) => {
                let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
                match rrpair_markdown::read(text) {
                    Ok(pair) => sink.pair(pair),
                    Err((line, left)) => tell(sink, &path, line, left),
                }
            }
        }
    }
}

/// The kind by the first character that is neither space nor byte order mark.
fn guess(seen: &[u8]) -> Option<Kind> {
    let text = seen.strip_prefix(BYTE_ORDER_MARK).unwrap_or(seen);
    match text.trim_ascii_start().first()? {
        b'{' | b'[' => Some(Kind::Json),
        // Half a byte order mark tells nothing yet.
        0xEF if seen.len() < BYTE_ORDER_MARK.len() => None,
        _ => Some(Kind::Markdown),
    }
}

/// The entries of a JSON file.
#[derive(Debug)]
struct Entries {
    splitter: Splitter,
    /// The file should hold one pair per line.
    lines: bool,
    seen: u64,
}

impl Entries {
    fn new(lines: bool) -> Self {
        Self { splitter: Splitter::new(lines), lines, seen: 0 }
    }

    fn push<S: Sink>(&mut self, bytes: &[u8], sink: &mut S, path: &str) {
        let Self { splitter, lines, seen } = self;
        splitter.push(bytes, &mut |piece| {
            // A lone object that shows no sign of a pair is somebody else's file, not a damaged recording.
            let foreign = (*seen == 0 && !*lines) || foreign::is_side_file(path);
            *seen = seen.saturating_add(1);
            deliver(sink, path, piece, foreign);
        });
    }

    fn finish<S: Sink>(mut self, sink: &mut S, path: &str) {
        let mut broken = 0_u64;
        self.splitter.finish(&mut |piece| {
            broken += 1;
            deliver(sink, path, piece, false);
        });
        // Snapshots hold empty side files of lines; an empty file of any other kind is worth a word.
        if self.seen == 0 && broken == 0 && !self.lines {
            tell(sink, path, 1, Left::skipped("empty_file", "", "the file holds nothing"));
        }
    }
}

fn deliver<S: Sink>(sink: &mut S, path: &str, piece: Piece, foreign: bool) {
    match piece {
        Piece::Entry { text, line } => match rrpair_json::read(&text) {
            Ok(pair) => sink.pair(pair),
            Err(left) if foreign && left.why.code == foreign::UNKNOWN => {
                tell(sink, path, line, Left::skipped(foreign::UNKNOWN, "", left.why.message));
            }
            Err(left) => tell(sink, path, line, left),
        },
        Piece::Broken { line, left } => tell(sink, path, line, left),
    }
}

fn tell<S: Sink>(sink: &mut S, path: &str, line: u32, left: Left) {
    let why = (*left.why).subject(path).line(line);
    if left.skipped {
        sink.skipped(why);
    } else {
        sink.refused(why);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        pairs: Vec<RrPair>,
        skipped: Vec<Diagnostic>,
        refused: Vec<Diagnostic>,
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
    }

    fn read(path: &str, chunks: &[&[u8]]) -> Seen {
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
        let seen = read("mappings.json", &[br#"{"mappings":[]}"#]);
        assert!(seen.refused[0].message.contains("WireMock"));
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
            for path in ["a.jsonl", "a.json", "a.md", "a"] {
                read(path, &[&bytes]);
                read(path, &[text.as_bytes()]);
            }
        }
    }

    /// Recorded third-party traffic that lies beside the repository on some machines.
    fn shared_data() -> Option<PathBuf> {
        let given = std::env::var_os("COUNTERSIGN_SHARED_DATA").map(PathBuf::from);
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        given.into_iter().chain([beside]).find(|dir| dir.is_dir())
    }

    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if is_recording(&path.to_string_lossy()) {
                files.push(path);
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the recorded data are files")]
    fn read_folder(dir: &Path) -> Seen {
        let mut files = Vec::new();
        walk(dir, &mut files);
        let mut all = Seen::default();
        for file in files {
            let seen = read(&file.to_string_lossy(), &[&std::fs::read(&file).unwrap()]);
            all.pairs.extend(seen.pairs);
            all.skipped.extend(seen.skipped);
            all.refused.extend(seen.refused);
        }
        all
    }

    /// What the recorder signed must be what we read.
    fn check_signature(pair: &RrPair) {
        let request = pair.request.as_ref().unwrap();
        let signed = |key: &str| {
            pair.signature.get(key).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let Some(method) = signed("http:method") else { return };
        assert_eq!(method, request.method);
        assert_eq!(signed("http:url").unwrap(), request.path);
        let content_type = crate::snapshot::header(&request.headers, "content-type")
            .map(AsRef::as_ref)
            .unwrap_or_default();
        match crate::body::key(content_type, &request.body) {
            crate::body::BodyKey::Json(json) => {
                assert_eq!(
                    signed("http:requestBodyJSON").unwrap(),
                    String::from_utf8_lossy(&json),
                    "{}",
                    request.path
                );
            }
            crate::body::BodyKey::Hash(hash) => {
                assert_eq!(pair.signature["http:requestBodyHash"], hash);
            }
            crate::body::BodyKey::None => assert!(request.body.is_empty()),
        }
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that did not run says so")]
    fn reads_every_recording_at_hand() {
        let Some(data) = shared_data() else {
            eprintln!(
                "NOTICE: not run, there is no recorded data: set COUNTERSIGN_SHARED_DATA to its folder"
            );
            return;
        };
        for (folder, pairs, refused) in [
            ("sessions-demo", 1048, 0),
            ("node-auth", 18, 0),
            ("wiremock-export-demo", 4, 1),
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
            for pair in &seen.pairs {
                check_signature(pair);
                assert!(pair.uuid.is_some() && pair.ts.is_some() && pair.duration > 0, "{folder}");
            }
            assert!(seen.refused.iter().all(|d| d.message.contains("WireMock")));
        }
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test that did not run says so")]
    fn both_forms_of_a_recording_are_the_same_pair() {
        let Some(data) = shared_data() else {
            eprintln!(
                "NOTICE: not run, there is no recorded data: set COUNTERSIGN_SHARED_DATA to its folder"
            );
            return;
        };
        let mut files = Vec::new();
        for folder in ["dlp-demo", "xml"] {
            walk(&data.join(folder), &mut files);
        }
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
