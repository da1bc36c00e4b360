//! How resources look: a row of a table for people, a JSON object for programs. Field names in JSON are those of the contract.

use countersign_proto::{
    control::v1::{
        RedactionCount, RedactionReport, Replay, ReplayState, Responder, ResponderPhase,
        ResponderStatus, Rollout, RolloutStage, SecretStatus, Snapshot, SnapshotState, TestConfig,
    },
    snapshot::v1::ServeDirection,
    transform::v1::Transform,
    r#type::v1::{
        Condition, ConditionStatus, Diagnostic, Digest, DigestFunction, SecretRef, Severity,
    },
};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::connect::id;

/// What can be shown.
pub(crate) trait View {
    /// The headings of a table.
    const HEADINGS: &'static [&'static str];
    /// The cells of a row.
    fn row(&self) -> Vec<String>;
    /// The whole resource.
    fn json(&self) -> Value;
}

impl View for Snapshot {
    const HEADINGS: &'static [&'static str] =
        &["ID", "STATE", "PAIRS", "IN", "OUT", "SIZE", "REFUSED", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            id(&self.name).to_owned(),
            snapshot_state(self.state()).to_lowercase(),
            self.pair_count.to_string(),
            self.in_count.to_string(),
            self.out_count.to_string(),
            HumanBytes(self.size_bytes).to_string(),
            self.report.as_ref().map_or(0, |report| report.refused).to_string(),
            time(self.create_time).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        let report = self.report.as_ref().map(|report| {
            json!({
                "imported": report.imported,
                "skipped": report.skipped,
                "refused": report.refused,
                "findings": findings(&report.findings),
                "redaction": report.redaction.as_ref().map(redaction),
            })
        });
        json!({
            "name": self.name,
            "displayName": self.display_name,
            "state": snapshot_state(self.state()),
            "etag": self.etag,
            "pairCount": self.pair_count,
            "inCount": self.in_count,
            "outCount": self.out_count,
            "sizeBytes": self.size_bytes,
            "manifest": digest(self.manifest.as_ref()),
            "report": report,
            "transform": self.transform,
            "createTime": time(self.create_time),
            "updateTime": time(self.update_time),
        })
    }
}

fn redaction(report: &RedactionReport) -> Value {
    let count = |count: &RedactionCount| {
        let places = count.places.iter();
        json!({
            "rule": count.rule,
            "category": count.category,
            "values": count.values,
            "pairs": count.pairs,
            "places": places.map(|at| json!({ "place": at.place, "values": at.values })).collect::<Vec<_>>(),
            "elsewhere": count.elsewhere,
        })
    };
    json!({
        "dlpConfig": report.dlp_config,
        "rules": report.rules.iter().map(count).collect::<Vec<_>>(),
        "tokensLeft": report.tokens_left.as_ref().map(count),
        "unread": report.unread.as_ref().map(count),
        "changesRequests": report.changes_requests,
        "signaturesStripped": report.signatures_stripped,
    })
}

impl View for Transform {
    const HEADINGS: &'static [&'static str] = &["ID", "SECRETS", "WARNINGS", "UPDATED"];

    fn row(&self) -> Vec<String> {
        vec![
            id(&self.name).to_owned(),
            self.required_secrets.iter().map(secret).collect::<Vec<_>>().join(", "),
            self.diagnostics.len().to_string(),
            time(self.update_time).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "templateJson": self.template_json,
            "etag": self.etag,
            "requiredSecrets": self.required_secrets.iter().map(secret).collect::<Vec<_>>(),
            "diagnostics": findings(&self.diagnostics),
            "digest": digest(self.digest.as_ref()),
            "createTime": time(self.create_time),
            "updateTime": time(self.update_time),
        })
    }
}

impl View for TestConfig {
    const HEADINGS: &'static [&'static str] = &["ID", "PROTECTED", "UPDATED"];

    fn row(&self) -> Vec<String> {
        let protected = if self.protected { "yes" } else { "no" };
        vec![
            id(&self.name).to_owned(),
            protected.to_owned(),
            time(self.update_time).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "configJson": self.config_json,
            "etag": self.etag,
            "protected": self.protected,
            "digest": digest(self.digest.as_ref()),
            "createTime": time(self.create_time),
            "updateTime": time(self.update_time),
        })
    }
}

impl View for Replay {
    const HEADINGS: &'static [&'static str] =
        &["ID", "STATE", "READY", "SERVES", "SNAPSHOT", "TRANSFORM", "TEST CONFIG", "RESPONDERS"];

    fn row(&self) -> Vec<String> {
        let active = self.responders.iter().filter(|r| r.phase() == ResponderPhase::Active).count();
        vec![
            id(&self.name).to_owned(),
            replay_state(self.state()).to_lowercase(),
            ready(self).map_or_else(String::new, |ready| match ready.status() {
                ConditionStatus::True => "yes".to_owned(),
                ConditionStatus::False | ConditionStatus::Unspecified => {
                    format!("no ({})", ready.reason)
                }
            }),
            serve(self.serve()).to_lowercase(),
            id(&self.snapshot).to_owned(),
            id(&self.transform).to_owned(),
            id(&self.test_config).to_owned(),
            format!("{active}/{}", self.responders.len()),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "snapshot": self.snapshot,
            "transform": self.transform,
            "testConfig": self.test_config,
            "serve": serve(self.serve()),
            "state": replay_state(self.state()),
            "etag": self.etag,
            "bundle": digest(self.bundle.as_ref()),
            "activeBundle": digest(self.active_bundle.as_ref()),
            "previousBundle": digest(self.previous_bundle.as_ref()),
            "generation": self.generation,
            "rollout": self.rollout.as_ref().map(rollout),
            "ready": ready(self).is_some_and(|ready| ready.status() == ConditionStatus::True),
            "conditions": self.conditions.iter().map(condition).collect::<Vec<_>>(),
            "responders": self.responders.iter().map(responder_status).collect::<Vec<_>>(),
            "diagnostics": findings(&self.diagnostics),
            "createTime": time(self.create_time),
            "updateTime": time(self.update_time),
        })
    }
}

impl View for Responder {
    const HEADINGS: &'static [&'static str] =
        &["NAME", "CONNECTED", "SERVES AT", "VERSION", "REPLAYS", "SINCE"];

    fn row(&self) -> Vec<String> {
        let connected = match (self.connected, self.others) {
            (false, _) => "no".to_owned(),
            (true, 0) => "yes".to_owned(),
            (true, others) => format!("yes, {others} more of this name"),
        };
        let replays = self.replays.iter().map(|at| {
            let phase =
                at.status.as_ref().map_or(ResponderPhase::Unspecified, ResponderStatus::phase);
            format!("{} ({})", id(&at.replay), responder_phase(phase).to_lowercase())
        });
        vec![
            self.name.clone(),
            connected,
            self.data_address.clone(),
            self.version.clone(),
            replays.collect::<Vec<_>>().join(", "),
            time(self.connect_time).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        let replays = self.replays.iter().map(
            |at| json!({ "replay": at.replay, "status": at.status.as_ref().map(responder_status) }),
        );
        json!({
            "name": self.name,
            "connected": self.connected,
            "dataAddress": self.data_address,
            "version": self.version,
            "connectTime": time(self.connect_time),
            "others": self.others,
            "replays": replays.collect::<Vec<_>>(),
        })
    }
}

impl View for Diagnostic {
    const HEADINGS: &'static [&'static str] = &["SEVERITY", "WHERE", "CODE", "MESSAGE"];

    fn row(&self) -> Vec<String> {
        vec![
            severity(self.severity()).to_lowercase(),
            place(self),
            self.code.clone(),
            self.message.clone(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "severity": severity(self.severity()),
            "code": self.code,
            "fieldPath": self.field_path,
            "message": self.message,
            "hint": self.hint,
            "subject": self.subject,
            "line": self.line,
            "record": self.record,
            "byteOffset": self.byte_offset,
            "count": self.count.max(1),
        })
    }
}

/// A finding on one line: severity, where, what, how to mend it.
pub(crate) fn finding(found: &Diagnostic) -> String {
    let mut line = format!("{}: ", severity(found.severity()).to_lowercase());
    let place = place(found);
    if !place.is_empty() {
        line.push_str(&place);
        line.push_str(": ");
    }
    line.push_str(&found.message);
    line.push_str(&format!(" [{}]", found.code));
    if found.count > 1 {
        line.push_str(&format!(" ({} times)", found.count));
    }
    if !found.hint.is_empty() {
        line.push_str("; ");
        line.push_str(&found.hint);
    }
    line
}

/// Whether a finding refuses the document.
pub(crate) fn is_error(found: &Diagnostic) -> bool {
    matches!(found.severity(), Severity::Error | Severity::Unspecified)
}

/// The replay's `Ready` condition.
pub(crate) fn ready(replay: &Replay) -> Option<&Condition> {
    replay.conditions.iter().find(|condition| condition.r#type == "Ready")
}

/// `secret/key`.
pub(crate) fn secret(secret: &SecretRef) -> String {
    format!("{}/{}", secret.secret, secret.key)
}

/// A point of time for people and programs, in UTC.
pub(crate) fn time(at: Option<prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    Some(jiff::Timestamp::new(at.seconds, 0).ok()?.to_string())
}

/// The kind of pairs that a replay serves.
pub(crate) fn serve(serve: ServeDirection) -> &'static str {
    match serve {
        ServeDirection::Unspecified | ServeDirection::Out => "OUT",
        ServeDirection::In => "IN",
        ServeDirection::All => "ALL",
    }
}

fn place(found: &Diagnostic) -> String {
    let mut parts = Vec::new();
    if !found.subject.is_empty() {
        let line = if found.line > 0 { format!(":{}", found.line) } else { String::new() };
        let record = match (found.record, found.byte_offset) {
            (0, _) => String::new(),
            (record, byte) => format!(" (record {record}, byte {byte})"),
        };
        parts.push(format!("{}{line}{record}", found.subject));
    } else if found.line > 0 {
        parts.push(format!("line {}", found.line));
    }
    if !found.field_path.is_empty() {
        parts.push(found.field_path.clone());
    }
    parts.join(": ")
}

fn findings(found: &[Diagnostic]) -> Vec<Value> {
    found.iter().map(View::json).collect()
}

fn condition(condition: &Condition) -> Value {
    let status = match condition.status() {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unspecified => "Unknown",
    };
    json!({
        "type": condition.r#type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": time(condition.last_transition_time),
    })
}

fn rollout(rollout: &Rollout) -> Value {
    let stage = match rollout.stage() {
        RolloutStage::Unspecified => "UNKNOWN",
        RolloutStage::Canary => "CANARY",
        RolloutStage::Preparing => "PREPARING",
        RolloutStage::Activated => "ACTIVATED",
        RolloutStage::Failed => "FAILED",
    };
    json!({
        "stage": stage,
        "generation": rollout.generation,
        "canary": rollout.canary,
        "expected": rollout.expected,
        "prepared": rollout.prepared,
        "active": rollout.active,
        "waitingFor": rollout.waiting_for,
        "excluded": rollout.excluded,
        "startTime": time(rollout.start_time),
    })
}

fn responder_status(status: &ResponderStatus) -> Value {
    json!({
        "responder": status.responder,
        "phase": responder_phase(status.phase()),
        "activeBundle": digest(status.active_bundle.as_ref()),
        "diagnostics": findings(&status.diagnostics),
        "secrets": status.secrets.iter().map(secret_status).collect::<Vec<_>>(),
        "generation": status.generation,
    })
}

fn secret_status(status: &SecretStatus) -> Value {
    json!({
        "ref": status.r#ref.as_ref().map(secret),
        "resolved": status.resolved,
        "kind": status.kind,
        "thumbprint": status.thumbprint,
        "error": status.error,
        "generation": status.generation,
    })
}

fn digest(digest: Option<&Digest>) -> Option<String> {
    let digest = digest?;
    let hash: String = digest.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(match digest.function() {
        DigestFunction::Sha256 => format!("sha256:{hash}"),
        DigestFunction::Blake3 | DigestFunction::Unspecified => hash,
    })
}

fn snapshot_state(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Unspecified => "UNKNOWN",
        SnapshotState::Importing => "IMPORTING",
        SnapshotState::Ready => "READY",
    }
}

fn replay_state(state: ReplayState) -> &'static str {
    match state {
        ReplayState::Unspecified => "UNKNOWN",
        ReplayState::Stopped => "STOPPED",
        ReplayState::Running => "RUNNING",
    }
}

fn responder_phase(phase: ResponderPhase) -> &'static str {
    match phase {
        ResponderPhase::Unspecified => "ANNOUNCED",
        ResponderPhase::Fetching => "FETCHING",
        ResponderPhase::Active => "ACTIVE",
        ResponderPhase::Rejected => "REJECTED",
        ResponderPhase::Prepared => "PREPARED",
    }
}

/// How bad a finding is.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Error | Severity::Unspecified => "ERROR",
    }
}

#[cfg(test)]
mod tests;
