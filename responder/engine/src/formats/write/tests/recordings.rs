//! Round trips of the recordings at hand.

use std::path::Path;

use super::{Severity, Target, Writer, exchange, read, round_trip};
use crate::{
    formats::{
        testing::{recordings_in, shared_data},
        write::wiremock::tests::assert_alike,
    },
    snapshot::RrPair,
};

#[expect(clippy::disallowed_methods, reason = "the recorded data are files")]
fn read_folder(dir: &Path) -> Vec<RrPair> {
    let files = recordings_in(dir);
    let pairs =
        files.iter().map(|file| read(&file.to_string_lossy(), &std::fs::read(file).unwrap()).pairs);
    // Mappings of WireMock are no recorded traffic.
    pairs.flatten().filter(|pair| pair.stub.is_none()).collect()
}

#[test]
fn every_recording_at_hand_comes_back_from_both_forms() {
    let Some(data) = shared_data() else { return };
    let pairs = read_folder(&data);
    assert!(pairs.len() >= 1164, "{}", pairs.len());
    for pair in &pairs {
        for target in [Target::JsonLines, Target::Markdown] {
            assert_eq!(round_trip(pair, target), (pair.clone(), vec![]));
        }
    }
}
/// The visible sections without blank lines: a line break at the end of a JSON body is shown by recorders and does not survive reading.
fn visible(text: &str) -> Vec<&str> {
    let visible = text.split("### INTERNAL").next().unwrap();
    visible.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn files_look_as_recorders_write_them() {
    let Some(data) = shared_data() else { return };
    let mut files = recordings_in(&data);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut compared = 0;
    for file in files {
        let recorded = std::fs::read_to_string(&file).unwrap();
        let Some(pair) = read("a.md", recorded.as_bytes()).pairs.pop() else { continue };
        let written = String::from_utf8(Writer::new(Target::Markdown).pair(&pair).bytes).unwrap();
        assert_eq!(visible(&written), visible(&recorded), "{}", file.display());
        compared += 1;
    }
    assert!(compared >= 1164, "{compared}");
}

/// The recording at hand as one HAR, read again: what is lost is told, and it is nothing that a request depends on.
#[test]
fn every_recording_at_hand_comes_back_from_a_har() {
    let Some(data) = shared_data() else { return };
    let pairs = read_folder(&data);
    let mut writer = Writer::new(Target::Har);
    let mut text: Vec<u8> = pairs.iter().flat_map(|pair| writer.pair(pair).bytes).collect();
    let (end, found) = writer.finish();
    text.extend(end.bytes);
    let found: Vec<_> = found.iter().map(|d| (d.severity, d.path.as_str())).collect();
    let expected = [
        (Severity::Warning, "direction"),
        (Severity::Info, "(metadata)"),
        (Severity::Info, "signature"),
    ];
    assert_eq!(found, expected);
    let back = read("a.har", &text).pairs;
    assert_eq!(back.len(), pairs.len());
    for (back, pair) in back.iter().zip(&pairs) {
        assert_eq!(exchange(back), exchange(pair));
    }
}

/// Every folder by itself: recordings of different services are not served together.
#[test]
fn every_recording_at_hand_answers_alike_as_mappings() {
    let Some(data) = shared_data() else { return };
    for folder in std::fs::read_dir(data).unwrap() {
        let mut pairs = read_folder(&folder.unwrap().path());
        pairs.sort_by_key(|pair| pair.ts);
        assert_alike(&pairs);
    }
}
