//! Who shares turns, as responders are told over a real connection.

use countersign_proto::{
    control::v1::{Replay, ResponderPhase, SequencePeer},
    discovery::v1::{
        Members, StatusReport, subscribe_request::Message as Say,
        subscribe_response::Message as Heard,
    },
};

use super::{
    server,
    subscriptions::{Responder, hello, outcome},
};

/// Says that a responder serves a replay, and shares its turns from a process if that is named.
async fn shares(responder: &Responder, replay: &Replay, session: Option<&str>) {
    let mut outcome = outcome(replay, ResponderPhase::Active);
    let peer = session.map(|session| SequencePeer {
        session_id: session.into(),
        address: format!("{session}:1"),
    });
    outcome.status.as_mut().unwrap().sequence_peer = peer;
    responder.say(Say::Status(StatusReport { outcomes: vec![outcome] })).await;
}

/// What is told next of who shares turns; deltas and heartbeats are passed over.
async fn members(responder: &mut Responder) -> Members {
    loop {
        if let Heard::Members(members) = responder.hear().await.unwrap() {
            return members;
        }
    }
}

fn sessions(members: &Members) -> Vec<&str> {
    members.members.iter().map(|member| member.session_id.as_str()).collect()
}

#[tokio::test]
async fn responders_are_told_who_shares_turns_with_them() {
    let server = server().await;
    let replay = server.running_replay("a").await;
    let (mut one, _) = Responder::greet(&server, hello("one")).await;
    let delta = one.delta().await;
    one.ack(delta.nonce, Vec::new()).await;
    shares(&one, &replay, Some("one-1")).await;
    let first = members(&mut one).await;
    assert_eq!((first.replay.as_str(), sessions(&first)), (replay.name.as_str(), vec!["one-1"]));
    assert_eq!((first.previous_epoch, first.previous.len()), (0, 0));

    let (mut two, _) = Responder::greet(&server, hello("two")).await;
    let delta = two.delta().await;
    two.ack(delta.nonce, Vec::new()).await;
    assert_eq!(members(&mut two).await, first, "it may ask, although it shares nothing yet");
    shares(&two, &replay, Some("two-1")).await;
    let second = members(&mut two).await;
    assert_eq!(sessions(&second), ["one-1", "two-1"]);
    assert!(second.epoch > first.epoch && second.previous_epoch == first.epoch);
    assert_eq!((members(&mut one).await, &second.previous), (second.clone(), &first.members));

    // Whoever says so is out at once, and so is a process in whose place there is another one.
    shares(&one, &replay, None).await;
    assert_eq!(sessions(&members(&mut two).await), ["two-1"]);
    shares(&one, &replay, Some("one-2")).await;
    assert_eq!(sessions(&members(&mut two).await), ["one-2", "two-1"]);
    drop(one);
    let left = members(&mut two).await;
    assert_eq!((sessions(&left), left.previous.len()), (vec!["two-1"], 2));

    // It outlives the control plane, and so do the numbers of epochs.
    drop(two);
    let server = server.restart().await;
    let (mut two, _) = Responder::greet(&server, hello("two")).await;
    let delta = two.delta().await;
    two.ack(delta.nonce, Vec::new()).await;
    assert_eq!(members(&mut two).await, left);
    shares(&two, &replay, Some("two-2")).await;
    let again = members(&mut two).await;
    assert!(again.epoch > left.epoch && again.previous == left.members);
    assert_eq!(sessions(&again), ["two-2"]);
}
