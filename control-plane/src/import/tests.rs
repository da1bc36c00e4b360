//! Imports of small uploads, whole.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use countersign_engine::{
    formats::{FileReader, Sink},
    snapshot::{
        RrPair,
        chunk::{self, Chunk},
        digest::Digest,
        wire::decode_chunk,
    },
};
use proptest::prelude::*;

use super::{
    staging::{Piece, Staging},
    *,
};

fn pair(ts: &str, path: &str) -> String {
    format!(
        r#"{{"msgType":"rrpair","resource":"demo","ts":"{ts}","l7protocol":"http","duration":1,"tags":{{}},"uuid":"","direction":"OUT","command":"GET","location":"{path}","status":"200","http":{{"req":{{"url":"http://demo{path}","uri":"{path}","version":"1.1","method":"GET","host":"demo","headers":{{}}}},"res":{{"contentType":"text/plain","statusCode":200,"statusMessage":"200 OK","headers":{{}},"bodyBase64":"b2s="}}}}}}"#
    )
}

fn staged(dir: &Path, files: &[(&str, Vec<u8>)], piece: usize) -> Pieces {
    let staging = Staging::new(dir.join("staging"), u64::MAX);
    staging.retain(&[]).unwrap();
    let mut log = staging.open("s", "u").unwrap();
    let mut sequence = 0;
    for (path, bytes) in files {
        for part in bytes.chunks(piece) {
            sequence += 1;
            log.append(&Piece {
                sequence,
                path: (*path).to_owned(),
                data: Bytes::copy_from_slice(part),
            })
            .unwrap();
        }
    }
    log.sync().unwrap();
    staging.read("s", "u").unwrap().unwrap()
}

fn kept() -> Wanted {
    Wanted { keep: true, ..Wanted::default() }
}

fn chunks_of(files: &[(&str, Vec<u8>)], piece: usize, budget: usize) -> (Vec<Chunk>, Report) {
    chunks_wanted(files, piece, budget, &kept())
}

fn chunks_wanted(
    files: &[(&str, Vec<u8>)],
    piece: usize,
    budget: usize,
    wanted: &Wanted,
) -> (Vec<Chunk>, Report) {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(dir.path().join("scratch"), budget);
    scratch.clear().unwrap();
    let mut last = None;
    let pieces = staged(dir.path(), files, piece);
    let (pairs, report) = read(pieces, scratch, wanted, |progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!(last.bytes_done, last.bytes_total);
    assert!(last.pairs >= report.imported, "what was read, of which derived files are left out");
    let mut chunks = Vec::new();
    pairs
        .cut(|chunk| {
            chunks.push(chunk);
            Ok(())
        })
        .unwrap();
    (chunks, report)
}

fn import(files: &[(&str, Vec<u8>)], piece: usize) -> (Vec<RrPair>, Report) {
    let (chunks, report) = chunks_of(files, piece, 1 << 20);
    let number = |(pair, ordinal): (RrPair, &u64)| RrPair { ordinal: *ordinal, ..pair };
    let numbered = |chunk: &Chunk| {
        let pairs = decode_chunk(&chunk.bytes).unwrap().into_iter();
        pairs.zip(&chunk.ordinals).map(number).collect::<Vec<_>>()
    };
    let mut pairs: Vec<RrPair> = chunks.iter().flat_map(numbered).collect();
    pairs.sort_by_key(|pair| pair.ordinal);
    assert_eq!(u64::try_from(pairs.len()).unwrap(), report.imported);
    (pairs, report)
}

fn paths(pairs: &[RrPair]) -> Vec<String> {
    pairs.iter().map(|pair| pair.request.as_ref().unwrap().path.clone()).collect()
}

#[test]
fn a_snapshot_folder_brings_each_pair_once() {
    let one = pair("2024-01-01T00:00:00Z", "/a").into_bytes();
    let files = [
        ("s/raw.jsonl", one.clone()),
        ("s/reaction.jsonl", one.clone()),
        ("t/reaction.jsonl", one),
    ];
    let (pairs, report) = import(&files, 100_000);
    assert_eq!((pairs.len(), report.imported, report.skipped), (2, 2, 1));
    assert_eq!(
        (report.findings[0].code, report.findings[0].subject.as_str()),
        ("derived_file", "s/reaction.jsonl")
    );
}

#[test]
fn mappings_and_their_bodies_are_joined_in_any_order() {
    let mapping = |name: &str, file: &str| {
        let text = format!(
            r#"{{"request":{{"urlPath":"/{name}"}},"response":{{"bodyFileName":"{file}"}}}}"#
        );
        (format!("w/mappings/{name}.json"), text.into_bytes())
    };
    let (a, b, c) = (mapping("a", "page"), mapping("b", "page"), mapping("c", "none"));
    let body = ("w/__files/page", b"# page".to_vec());
    let mut files = vec![body, (&a.0, a.1.clone()), (&b.0, b.1.clone()), (&c.0, c.1.clone())];
    for _ in 0..4 {
        files.rotate_left(1);
        for piece in [1, 100_000] {
            let (pairs, report) = import(&files, piece);
            assert_eq!(paths(&pairs), ["/a", "/b"], "in the order of the files");
            assert!(pairs.iter().all(|pair| pair.response.body == "# page"));
            assert_eq!((report.imported, report.skipped, report.refused), (2, 0, 1));
            assert_eq!(report.findings[0].code, "body_file_missing");
            assert_eq!(report.findings[0].subject, "w/mappings/c.json");
        }
    }
}

#[test]
fn what_the_filter_does_not_select_is_skipped_and_counted() {
    let lines: Vec<String> =
        (0..50).map(|n| pair("2024-01-01T00:00:00Z", &format!("/{}", n % 5))).collect();
    let raw = lines.join("\n").into_bytes();
    let files = [("s/raw.jsonl", raw.clone()), ("s/reaction.jsonl", raw)];
    for (query, imported) in [(r#"location IS "/3""#, 10), ("", 50), (r#"command IS "POST""#, 0)] {
        let filter = PairFilter::parse(query).0;
        let wanted = Wanted { keep: true, filter, ..Wanted::default() };
        let (chunks, report) = chunks_wanted(&files, 777, 1 << 20, &wanted);
        let kept =
            chunks.iter().map(|chunk| chunk.ordinals.len()).sum::<usize>().try_into().unwrap();
        assert_eq!((kept, report.imported, report.skipped), (imported, imported, 100 - imported));
        assert_eq!(report.inbound + report.refused, 0);
        let filtered: Vec<u64> = report
            .findings
            .iter()
            .filter(|found| found.code == "filtered_out")
            .map(|found| found.count)
            .collect();
        let derived = report.findings.iter().find(|found| found.code == "derived_file");
        assert_eq!(derived.map_or(0, |found| found.count), imported);
        // One finding, whatever its count.
        let expected = if imported == 50 { vec![] } else { vec![100 - 2 * imported] };
        assert_eq!(filtered, expected);
    }
}

#[test]
fn halves_are_joined_across_files() {
    let request = b"GET /half HTTP/1.1\r\nHost: demo\r\n\r\n".to_vec();
    let response = b"HTTP/1.1 200 OK\r\n\r\nok".to_vec();
    let files =
        [("d/Req1.txt", request.clone()), ("d/Req2.txt", request), ("d/Res1.txt", response)];
    for piece in [1, 100_000] {
        let (pairs, report) = import(&files, piece);
        assert_eq!(
            (paths(&pairs), report.imported, report.skipped),
            (vec!["/half".to_owned()], 1, 1)
        );
        assert_eq!(report.findings[0].subject, "d/Req2.txt");
    }
}

#[test]
fn recorded_order_is_by_time_then_path_then_position() {
    let early = "2024-01-01T00:00:00Z";
    let late = "2024-01-02T00:00:00.000000001Z";
    let b = [pair(late, "/b1"), pair(early, "/b2"), pair(early, "/b3")].join("\n");
    let a = [pair(early, "/a1"), pair("2024-01-02T00:00:00Z", "/a2")].join("\n");
    for piece in [1, 7, 100_000] {
        let files = [("b.jsonl", b.clone().into_bytes()), ("a.jsonl", a.clone().into_bytes())];
        let (pairs, report) = import(&files, piece);
        assert_eq!(paths(&pairs), ["/a1", "/b2", "/b3", "/a2", "/b1"], "{report:?}");
        assert_eq!(pairs.iter().map(|pair| pair.ordinal).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((report.imported, report.skipped, report.refused), (5, 0, 0));
    }
}

#[test]
fn what_cannot_be_read_is_reported_with_file_and_line() {
    let good = pair("2024-01-01T00:00:00Z", "/good");
    let file = format!("{good}\n{{\"broken\": \n{good}\n{}", good.split_once("http").unwrap().0);
    let (pairs, report) =
        import(&[("x.jsonl", file.into_bytes()), ("empty.jsonl", b"\n".to_vec())], 64);
    assert_eq!((pairs.len(), report.imported), (2, 2), "{report:?}");
    assert!(report.refused >= 2, "{report:?}");
    assert!(
        report.findings.iter().any(|found| found.subject == "x.jsonl" && found.line == 2),
        "{report:?}"
    );
}

#[test]
fn a_damaged_upload_is_not_half_imported() {
    let dir = tempfile::tempdir().unwrap();
    let good = pair("2024-01-01T00:00:00Z", "/good").into_bytes();
    drop(staged(dir.path(), &[("a.jsonl", good)], 100));
    let staging = Staging::new(dir.path().join("staging"), u64::MAX);
    let upload = fs::read_dir(dir.path().join("staging")).unwrap().next().unwrap().unwrap();
    let path = fs::read_dir(upload.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&path).unwrap();
    bytes.pop();
    fs::write(&path, bytes).unwrap();
    let pieces = staging.read("s", "u").unwrap().unwrap();
    let scratch = Scratch::new(dir.path().join("scratch"), 0);
    let error = read(pieces, scratch, &kept(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn a_spill_that_fails_ends_the_import() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..5000).map(|n| pair("", &format!("/{n}"))).collect();
    let pieces = staged(dir.path(), &[("a.jsonl", lines.join("\n").into_bytes())], 100_000);
    let nowhere = Scratch::new(dir.path().join("nowhere"), 1000);
    let error = read(pieces, nowhere, &kept(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn what_is_only_counted_is_not_spilled() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..500).map(|n| pair("", &format!("/{n}"))).collect();
    let pieces = staged(dir.path(), &[("a.jsonl", lines.join("\n").into_bytes())], 100_000);
    let nowhere = Scratch::new(dir.path().join("nowhere"), 1000);
    assert_eq!(read(pieces, nowhere, &Wanted::default(), |_| {}).unwrap().1.imported, 500);
}

/// What an import is, without any regard to memory: all pairs in recorded order, numbered, then by endpoint.
fn model(files: &[(&str, Vec<u8>)]) -> Vec<Digest> {
    #[derive(Default)]
    struct All(Vec<RrPair>);
    impl Sink for All {
        fn pair(&mut self, pair: RrPair) {
            self.0.push(pair);
        }
        fn skipped(&mut self, _why: Diagnostic) {}
        fn refused(&mut self, _why: Diagnostic) {}
    }
    let mut all: Vec<(&str, RrPair)> = Vec::new();
    for (path, bytes) in files {
        let mut read = All::default();
        let mut reader = FileReader::new(path, &mut read);
        reader.push(bytes);
        reader.finish();
        all.extend(read.0.into_iter().map(|pair| (*path, pair)));
    }
    let raw: Vec<&str> =
        all.iter().filter_map(|(path, _)| path.strip_suffix("raw.jsonl")).collect();
    all.retain(|(path, _)| {
        let folder =
            path.strip_suffix("reaction.jsonl").or_else(|| path.strip_suffix("action.jsonl"));
        !folder.is_some_and(|folder| raw.contains(&folder))
    });
    all.sort_by_key(|(path, pair)| (pair.ts.is_none(), pair.ts, *path));
    let mut pairs: Vec<RrPair> =
        (0..).zip(all).map(|(ordinal, (_, pair))| RrPair { ordinal, ..pair }).collect();
    chunk::sort_by_endpoint(&mut pairs);
    let mut digests = Vec::new();
    chunk::cut(pairs, |chunk| {
        digests.push(Digest::of(&chunk.bytes));
        Ok::<(), StoreError>(())
    })
    .unwrap();
    digests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn is_byte_for_byte_what_sorting_in_memory_gives(
        pairs in proptest::collection::vec((0_usize..6, -3_i64..6, 0_u8..9, 0_usize..3000), 0..200),
        piece in 50_usize..20_000,
        budget in 500_usize..200_000,
    ) {
        const NAMES: [&str; 6] = ["z/raw.jsonl", "z/reaction.jsonl", "y/action.jsonl", "b.jsonl", "a.jsonl", "z/raw.jsonl2"];
        let mut files: Vec<(&str, Vec<u8>)> = NAMES.iter().map(|name| (*name, Vec::new())).collect();
        for (file, second, path, body) in pairs {
            let ts = if second == 5 { String::new() } else { format!("{}Z", jiff::Timestamp::from_second(second).unwrap().strftime("%FT%T")) };
            let body = STANDARD.encode(vec![path; body]);
            let line = pair(&ts, &format!("/{path}")).replace("b2s=", &body);
            let text = &mut files[file].1;
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let (chunks, _) = chunks_of(&files, piece, budget);
        let digests: Vec<Digest> = chunks.iter().map(|chunk| Digest::of(&chunk.bytes)).collect();
        prop_assert_eq!(digests, model(&files));
    }
}

#[test]
fn chunks_hold_every_pair() {
    let lines: Vec<String> =
        (0..50).map(|n| pair("2024-01-01T00:00:00Z", &format!("/{n}"))).collect();
    let (chunks, _) = chunks_of(&[("a.jsonl", lines.join("\n").into_bytes())], 1000, 1 << 20);
    assert_eq!(chunks.iter().map(|chunk| chunk.ordinals.len()).sum::<usize>(), 50);
}
