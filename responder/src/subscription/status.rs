//! What the control plane is told about each replay.

use std::sync::Arc;

use countersign_engine::{
    diagnostic::Diagnostic,
    jwt::key::SecretRef,
    snapshot::wire::{encode_diagnostic, encode_digest, encode_secret_ref},
};
use countersign_proto::{
    control::v1::{ResponderPhase, ResponderStatus, SecretStatus, SequencePeer},
    discovery::v1::{Assignment, Outcome},
    r#type::v1 as common,
};

use super::decode;
use crate::{
    secrets::Secrets,
    sequence::Sequences,
    snapshots::{Rejected, Replay, Table},
};

/// Findings told for each replay; the responder's own `/status` has them all.
const FINDINGS: usize = 100;

/// Tells of replays.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    pub(super) responder: &'a str,
    pub(super) table: &'a Table,
    pub(super) secrets: &'a Secrets,
    pub(super) sequences: &'a Sequences,
}

impl Teller<'_> {
    /// What has become of an assignment by now.
    pub(super) fn outcome(&self, announced: &Assignment) -> Outcome {
        let Some(assignment) = decode(announced, 0) else { return self.unreadable(announced) };
        let is_it = |replay: &&Arc<Replay>| replay.assignment.is(&assignment);
        let active = self.table.active(&assignment.name);
        let rejected = self.table.rejected.get(&assignment.name);
        let prepared = self.table.prepared.get(&assignment.name).filter(is_it);
        if let Some(rejected) = rejected.filter(|it| it.generation == assignment.generation) {
            return self.rejected(&announced.name, rejected, active.map(AsRef::as_ref));
        }
        match (active.filter(is_it), prepared) {
            (Some(replay), _) => self.active(replay),
            (None, Some(replay)) => self.prepared(replay),
            (None, None) => self.fetching(announced),
        }
    }

    /// All replays that sign, for a report on changed keys. Those with a refused successor have been told of.
    pub(super) fn signing(&self) -> Vec<Outcome> {
        let signing = |replay: &Replay| {
            !replay.secrets.is_empty() && !self.table.rejected.contains_key(&replay.assignment.name)
        };
        self.table
            .replays
            .iter()
            .filter(|replay| signing(replay))
            .map(|replay| self.active(replay))
            .collect()
    }

    /// All replays whose turns nodes share.
    pub(super) fn sharing(&self) -> Vec<Outcome> {
        let shares = |replay: &&Arc<Replay>| self.peer(replay, true).is_some();
        self.table.replays.iter().filter(shares).map(|replay| self.active(replay)).collect()
    }

    /// How this responder presents itself to those who share the turns of a replay with it, if anybody does.
    fn peer(&self, replay: &Replay, leaving: bool) -> Option<SequencePeer> {
        replay.serving.snapshot().shared_lists().next()?;
        self.sequences.peer().or_else(|| leaving.then(SequencePeer::default))
    }

    fn active(&self, replay: &Replay) -> Outcome {
        let bundle = encode_digest(&replay.assignment.bundle);
        let status = ResponderStatus {
            responder: self.responder.to_owned(),
            phase: ResponderPhase::Active.into(),
            active_bundle: Some(bundle.clone()),
            diagnostics: findings(replay.serving.diagnostics()),
            secrets: self.secrets_of(replay),
            generation: replay.assignment.generation,
            sequence_peer: self.peer(replay, false),
        };
        Outcome { name: replay.assignment.name.clone(), bundle: Some(bundle), status: Some(status) }
    }

    fn prepared(&self, replay: &Replay) -> Outcome {
        let outcome = self.active(replay);
        let active = self.active_bundle(&replay.assignment.name);
        let phase = ResponderPhase::Prepared.into();
        let status =
            outcome.status.map(|status| ResponderStatus { phase, active_bundle: active, ..status });
        Outcome { status, ..outcome }
    }

    fn fetching(&self, announced: &Assignment) -> Outcome {
        let status = ResponderStatus {
            responder: self.responder.to_owned(),
            phase: ResponderPhase::Fetching.into(),
            active_bundle: self.active_bundle(&announced.name),
            generation: announced.generation,
            ..ResponderStatus::default()
        };
        let (name, bundle) = (announced.name.clone(), announced.bundle.clone());
        Outcome { name, bundle, status: Some(status) }
    }

    fn active_bundle(&self, name: &str) -> Option<common::Digest> {
        self.table.active(name).map(|replay| encode_digest(&replay.assignment.bundle))
    }

    fn rejected(&self, name: &str, rejected: &Rejected, active: Option<&Replay>) -> Outcome {
        let status = ResponderStatus {
            responder: self.responder.to_owned(),
            phase: ResponderPhase::Rejected.into(),
            active_bundle: active.map(|replay| encode_digest(&replay.assignment.bundle)),
            diagnostics: findings(&rejected.diagnostics),
            secrets: active.map(|replay| self.secrets_of(replay)).unwrap_or_default(),
            generation: rejected.generation,
            sequence_peer: active.and_then(|replay| self.peer(replay, false)),
        };
        Outcome {
            name: name.to_owned(),
            bundle: Some(encode_digest(&rejected.bundle)),
            status: Some(status),
        }
    }

    /// Nothing is known of an assignment when its digest could not be decoded.
    fn unreadable(&self, announced: &Assignment) -> Outcome {
        let found = Diagnostic::error(
            "assignment_malformed",
            "",
            "the assignment names no readable digest",
        );
        let status = ResponderStatus {
            responder: self.responder.to_owned(),
            phase: ResponderPhase::Rejected.into(),
            diagnostics: findings(&[found]),
            generation: announced.generation,
            ..ResponderStatus::default()
        };
        Outcome {
            name: announced.name.clone(),
            bundle: announced.bundle.clone(),
            status: Some(status),
        }
    }

    fn secrets_of(&self, replay: &Replay) -> Vec<SecretStatus> {
        replay.secrets.iter().map(|secret| self.secret(secret)).collect()
    }

    fn secret(&self, secret: &SecretRef) -> SecretStatus {
        let report = self.secrets.report(secret);
        SecretStatus {
            r#ref: Some(encode_secret_ref(secret)),
            resolved: report.resolved,
            kind: report.kind,
            thumbprint: report.thumbprint.unwrap_or_default(),
            error: report
                .problem
                .map(|(code, message)| format!("{message} [{code}]"))
                .unwrap_or_default(),
            generation: report.generation,
        }
    }
}

fn findings(found: &[Diagnostic]) -> Vec<common::Diagnostic> {
    found.iter().take(FINDINGS).map(encode_diagnostic).collect()
}
