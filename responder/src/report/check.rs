//! Tokens in requests: a few of the last ones in the journal are looked at each second, off the request path.

use std::collections::BTreeMap;

use countersign_engine::near_miss::Presented;

use super::{Reports, tally::Checked};
use crate::{journal::Journal, snapshots::Table};

/// So many requests are looked at at a time.
const MOST: usize = 20;
/// How a token is told of, apart from other credentials.
const TOKEN: &str = "a JWT";
/// What is no reason to refuse a token: the recording may know less than the service.
const HARMLESS: &str = "identity_not_recorded";

/// Looks at the tokens of the last requests since then, in nanoseconds since the epoch, and counts what became of them. Tells of when the last was.
/// Takes time: not for the request path's threads.
pub(super) fn look(journal: &Journal, table: &Table, reports: &Reports, since: i64) -> i64 {
    let (presented, last) = journal.presented(since, MOST, table);
    let mut found: BTreeMap<u64, Checked> = BTreeMap::new();
    for (serial, credentials) in presented {
        let checked = found.entry(serial).or_default();
        credentials.iter().for_each(|credential| note(credential, checked));
    }
    let all = reports.all();
    for (serial, checked) in found {
        let replay = table.of_serial(serial).map(|replay| &replay.assignment);
        let tally = replay.and_then(|of| all.iter().find(|tally| tally.is_of(of)));
        if let Some(tally) = tally.filter(|_| checked.checked > 0) {
            tally.check(&checked);
        }
    }
    last
}

fn note(credential: &Presented, checked: &mut Checked) {
    if !credential.what.starts_with(TOKEN) {
        return;
    }
    checked.checked += 1;
    let mut sound = true;
    for finding in credential.findings.iter().filter(|finding| finding.code != HARMLESS) {
        *checked.refused.entry(finding.code).or_default() += 1;
        sound = false;
    }
    checked.accepted += u64::from(sound);
}
