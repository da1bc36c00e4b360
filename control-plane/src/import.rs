//! From uploaded files to chunks: parse, put into recorded order, number, sort by endpoint, cut.
//!
//! Every entry of every file is counted exactly once: as imported, skipped or refused.

pub mod staging;
pub mod uploads;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use countersign_engine::{
    diagnostic::{Diagnostic, Diagnostics},
    formats::{FileReader, Half, Joiner, Sink},
    snapshot::{Direction, RrPair, chunk, chunk::Chunk},
};

use crate::store::StoreError;
use staging::Pieces;

/// What an import did with every entry that it met.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Pairs to store.
    pub imported: u64,
    /// How many of them are IN.
    pub inbound: u64,
    /// Entries passed over on purpose.
    pub skipped: u64,
    /// Entries that could not be read.
    pub refused: u64,
    /// Why.
    pub findings: Vec<Diagnostic>,
}

/// How far an import has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Pairs read so far.
    pub pairs: u64,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The upload cannot be read or the content not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads an upload: the pairs in recorded order, numbered, and the report.
///
/// Recorded order is by time; equal times keep the order of path and position, and pairs without a time come last.
///
/// # Errors
/// When the upload cannot be read to its end.
pub fn read(
    mut pieces: Pieces,
    mut progress: impl FnMut(Progress),
) -> Result<(Vec<RrPair>, Report), ImportError> {
    let bytes_total = pieces.bytes_total();
    let mut collected = Collected::default();
    let seen = Arc::clone(&collected.seen);
    let mut next = pieces.next().transpose()?;
    while let Some(first) = next.take() {
        collected.path = first.path.as_str().into();
        let mut reader = FileReader::new(&first.path, &mut collected);
        reader.push(&first.data);
        loop {
            let pairs = seen.load(Ordering::Relaxed);
            progress(Progress { bytes_done: pieces.bytes_done(), bytes_total, pairs });
            match pieces.next().transpose()? {
                Some(piece) if piece.path == first.path => reader.push(&piece.data),
                other => {
                    next = other;
                    break;
                }
            }
        }
        reader.finish();
    }
    progress(Progress {
        bytes_done: pieces.bytes_done(),
        bytes_total,
        pairs: seen.load(Ordering::Relaxed),
    });
    pieces.check_end()?;
    Ok(collected.finish())
}

/// Cuts pairs into chunks and hands each to `put`.
///
/// # Errors
/// The first error of `put`.
pub fn cut(
    mut pairs: Vec<RrPair>,
    put: impl FnMut(Chunk) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    chunk::sort_by_endpoint(&mut pairs);
    chunk::cut(pairs, put)
}

#[derive(Debug, Default)]
struct Collected {
    path: Arc<str>,
    pairs: Vec<(Arc<str>, RrPair)>,
    seen: Arc<AtomicU64>,
    report: Report,
    findings: Diagnostics,
    joiner: Joiner,
}

impl Sink for Collected {
    fn pair(&mut self, pair: RrPair) {
        self.report.imported += 1;
        self.report.inbound += u64::from(pair.direction == Direction::In);
        self.pairs.push((Arc::clone(&self.path), pair));
        self.seen.store(self.report.imported, Ordering::Relaxed);
    }

    fn skipped(&mut self, why: Diagnostic) {
        self.report.skipped += why.count.max(1);
        self.findings.push(why);
    }

    fn refused(&mut self, why: Diagnostic) {
        self.report.refused += why.count.max(1);
        self.findings.push(why);
    }

    fn noted(&mut self, why: Diagnostic) {
        self.findings.push(why);
    }

    fn unpacked(&mut self, path: &str) {
        self.path = path.into();
    }

    fn half(&mut self, half: Half) {
        let mut joiner = std::mem::take(&mut self.joiner);
        joiner.join(half, self);
        self.joiner = joiner;
    }
}

impl Collected {
    fn finish(mut self) -> (Vec<RrPair>, Report) {
        std::mem::take(&mut self.joiner).finish(&mut self);
        self.leave_out_derived();
        // The sort is stable, so that equal keys keep their position within the file.
        self.pairs.sort_by(|(a_path, a), (b_path, b)| {
            (a.ts.is_none(), a.ts, a_path).cmp(&(b.ts.is_none(), b.ts, b_path))
        });
        self.report.findings = self.findings.into_vec();
        let pairs =
            (0..).zip(self.pairs).map(|(ordinal, (_, pair))| RrPair { ordinal, ..pair }).collect();
        (pairs, self.report)
    }

    /// In a snapshot's folder `raw.jsonl` is the source; the analyzer makes `action.jsonl` and `reaction.jsonl` from it, so that importing
    /// the folder would bring every pair twice.
    fn leave_out_derived(&mut self) {
        let sources: BTreeSet<String> = self
            .pairs
            .iter()
            .filter_map(|(path, _)| path.strip_suffix("raw.jsonl").map(str::to_owned))
            .collect();
        let derived = |path: &str| {
            ["reaction.jsonl", "action.jsonl"]
                .iter()
                .find_map(|name| path.strip_suffix(name))
                .is_some_and(|folder| sources.contains(folder))
        };
        let mut left_out: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let report = &mut self.report;
        self.pairs.retain(|(path, pair)| {
            if !derived(path) {
                return true;
            }
            report.imported -= 1;
            report.inbound -= u64::from(pair.direction == Direction::In);
            report.skipped += 1;
            *left_out.entry(Arc::clone(path)).or_default() += 1;
            false
        });
        for (path, count) in left_out {
            let mut why = Diagnostic::info(
                "derived_file",
                "",
                "made from the raw.jsonl beside it, which is imported",
            )
            .subject(&*path);
            why.count = count;
            self.findings.push(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        staging::{Piece, Staging},
        *,
    };

    fn pair(ts: &str, path: &str) -> String {
        format!(
            r#"{{"msgType":"rrpair","resource":"demo","ts":"{ts}","l7protocol":"http","duration":1,"tags":{{}},"uuid":"","direction":"OUT","command":"GET","location":"{path}","status":"200","http":{{"req":{{"url":"http://demo{path}","uri":"{path}","version":"1.1","method":"GET","host":"demo","headers":{{}}}},"res":{{"contentType":"text/plain","statusCode":200,"statusMessage":"200 OK","headers":{{}},"bodyBase64":"b2s="}}}}}}"#
        )
    }

    fn import(files: &[(&str, Vec<u8>)], piece: usize) -> (Vec<RrPair>, Report) {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path().to_owned(), u64::MAX);
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
        let mut last = None;
        let read = read(staging.read("s", "u").unwrap().unwrap(), |progress| last = Some(progress))
            .unwrap();
        let last = last.unwrap();
        assert_eq!(last.bytes_done, last.bytes_total);
        assert!(
            last.pairs >= read.1.imported,
            "what was read, of which derived files are left out"
        );
        read
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
        let file =
            format!("{good}\n{{\"broken\": \n{good}\n{}", good.split_once("http").unwrap().0);
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
        let staging = Staging::new(dir.path().to_owned(), u64::MAX);
        let mut log = staging.open("s", "u").unwrap();
        log.append(&Piece { sequence: 1, path: "a.jsonl".into(), data: "{}".into() }).unwrap();
        log.sync().unwrap();
        let file = std::fs::read_dir(
            std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path(),
        )
        .unwrap();
        let path = file.into_iter().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.pop();
        std::fs::write(&path, bytes).unwrap();
        let error = read(staging.read("s", "u").unwrap().unwrap(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }

    #[test]
    fn chunks_hold_every_pair() {
        let lines: Vec<String> =
            (0..50).map(|n| pair("2024-01-01T00:00:00Z", &format!("/{n}"))).collect();
        let (pairs, _) = import(&[("a.jsonl", lines.join("\n").into_bytes())], 1000);
        let mut counted = 0;
        cut(pairs, |chunk| {
            counted += chunk.pairs;
            Ok(())
        })
        .unwrap();
        assert_eq!(counted, 50);
    }
}
