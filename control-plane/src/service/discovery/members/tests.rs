//! Who counts among those that share turns.

use std::sync::Arc;

use countersign_engine::snapshot::digest::Digest;

use super::*;
use crate::{
    fleet::{Outcome, Phase},
    publish::Entry,
    rollout::Announced,
};

const REPLAY: &str = "projects/shop/replays/r";

fn responder(project: &str, name: &str, selectors: &[&str]) -> Responder {
    Responder {
        project: project.to_owned(),
        name: name.to_owned(),
        connected: true,
        data_address: String::new(),
        version: String::new(),
        connect_time: 1,
        leave_time: 0,
        selectors: selectors.iter().map(|s| (*s).to_owned()).collect(),
        replays: BTreeMap::new(),
        others: 0,
    }
}

/// Serving, and sharing its turns from an address.
fn shares(address: &str) -> Outcome {
    let peer = SequencePeer { session_id: "s".into(), address: address.into() };
    Outcome {
        bundle: Some(Digest::of(b"b")),
        generation: 1,
        phase: Phase::Active,
        refusal: String::new(),
        unresolved: Vec::new(),
        report: Shares { sequence_peer: Some(peer) }.encode_to_vec().into(),
    }
}

#[test]
fn only_responders_that_a_replay_is_for_share_its_turns() {
    let (fleet, web) = (Fleet::default(), "projects/web/replays/r");
    let announced = [REPLAY, web].map(|replay| {
        let entry = Entry { etag: String::new(), announced: Announced::default() };
        (replay.to_owned(), Arc::new(entry))
    });
    let table = Table { revision: 1, assignments: announced.into() };
    for (project, name, selectors) in [
        ("projects/shop", "own", &[][..]),
        ("projects/shop", "picky", &["other"]),
        ("projects/web", "foreign", &[]),
        ("projects/web", "own", &[]),
    ] {
        let (session, _) = fleet.connect(responder(project, name, selectors), "x");
        fleet.report(&session, REPLAY, shares(&format!("{name}.{}:1", project.replace('/', "."))));
    }
    let heard = sharing(&fleet, &table);
    let addresses: Vec<&str> =
        heard[REPLAY].values().flatten().map(|member| member.address.as_str()).collect();
    assert_eq!(addresses, ["own.projects.shop:1"]);
    assert!(heard[web].is_empty());
}
