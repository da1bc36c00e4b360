//! Between the control plane's types and the wire's, which are also what is stored.

use bytes::Bytes;
use countersign_engine::{
    diagnostic::Diagnostic,
    dlp::RuleReport,
    snapshot::{
        digest::Digest,
        wire::{
            WireError, decode_digest, decode_treatment, encode_diagnostic, encode_digest,
            encode_secret_ref, encode_serve, encode_treatment, timestamp,
        },
    },
};
use countersign_proto::{
    control::v1::{
        ImportReport, RedactionCount, RedactionPlace, RedactionReport, ResponderPhase,
        ResponderStatus, Snapshot,
    },
    discovery::v1 as discovery,
    snapshot::v1 as proto,
    r#type::v1 as common,
};
use prost::Message;

use crate::{
    content::{Bundle, SCHEMA, manifest},
    fleet::{Outcome, Phase},
    import::{Report, treat::Redaction},
    publish::Assignment,
};

pub(crate) use super::announced::{decode_announced, encode_announced};

/// A snapshot as it is stored.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredSnapshot {
    /// Without name, etag and times, which the record has.
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<Snapshot>,
    /// The upload that became its content.
    #[prost(string, tag = "2")]
    pub(crate) upload_id: String,
}

/// Blobs that were written for a snapshot, as they are stored.
#[derive(Clone, PartialEq, Message)]
struct StoredHolding {
    #[prost(message, repeated, tag = "1")]
    digests: Vec<common::Digest>,
}

/// Encodes which blobs were written for a snapshot.
pub(crate) fn encode_holding(digests: &[Digest]) -> Bytes {
    StoredHolding { digests: digests.iter().map(encode_digest).collect() }.encode_to_vec().into()
}

/// Decodes which blobs were written for a snapshot.
pub(crate) fn decode_holding(body: Bytes) -> Result<Vec<Digest>, WireError> {
    let stored: StoredHolding = decode("record", body)?;
    stored.digests.iter().map(decode_digest).collect()
}

/// Decodes the digest of a stored snapshot's manifest; an unfinished snapshot has none.
pub(crate) fn decode_stored_manifest(body: Bytes) -> Result<Option<Digest>, WireError> {
    let stored: StoredSnapshot = decode("record", body)?;
    stored
        .snapshot
        .and_then(|snapshot| snapshot.manifest)
        .map(|digest| decode_digest(&digest))
        .transpose()
}

/// Decodes a message.
pub(crate) fn decode<M: Message + Default>(
    what: &'static str,
    bytes: Bytes,
) -> Result<M, WireError> {
    M::decode(bytes).map_err(|source| WireError::Decode { what, source })
}

/// Encodes a manifest, of which the pages lie apart.
pub(crate) fn encode_manifest(manifest: &manifest::Stored) -> Bytes {
    proto::Manifest {
        chunks: encode_chunks(&manifest.chunks),
        pairs: manifest.pairs,
        treatment: manifest.treatment.as_ref().map(encode_treatment),
        pages: manifest.pages.iter().map(encode_digest).collect(),
        ordinals: manifest.ordinals.as_ref().map(encode_digest),
    }
    .encode_to_vec()
    .into()
}

/// Decodes a manifest.
pub(crate) fn decode_manifest(bytes: Bytes) -> Result<manifest::Stored, WireError> {
    let stored: proto::Manifest = decode("manifest", bytes)?;
    Ok(manifest::Stored {
        chunks: decode_chunks(&stored.chunks)?,
        pages: stored.pages.iter().map(decode_digest).collect::<Result<_, _>>()?,
        ordinals: stored.ordinals.as_ref().map(decode_digest).transpose()?,
        pairs: stored.pairs,
        treatment: stored.treatment.map(decode_treatment),
    })
}

/// Encodes a page of a manifest: chunks, and how many pairs each holds.
pub(crate) fn encode_page(chunks: &[(Digest, u64)]) -> Bytes {
    proto::ManifestPage { chunks: encode_chunks(chunks) }.encode_to_vec().into()
}

/// Decodes a page of a manifest.
pub(crate) fn decode_page(bytes: Bytes) -> Result<Vec<(Digest, u64)>, WireError> {
    decode_chunks(&decode::<proto::ManifestPage>("manifest page", bytes)?.chunks)
}

fn encode_chunks(chunks: &[(Digest, u64)]) -> Vec<proto::ChunkRef> {
    let encode = |(digest, pairs): &(Digest, u64)| proto::ChunkRef {
        digest: Some(encode_digest(digest)),
        pairs: *pairs,
    };
    chunks.iter().map(encode).collect()
}

fn decode_chunks(chunks: &[proto::ChunkRef]) -> Result<Vec<(Digest, u64)>, WireError> {
    chunks.iter().map(|chunk| Ok((required(chunk.digest.as_ref())?, chunk.pairs))).collect()
}

/// Encodes a bundle.
pub(crate) fn encode_bundle(bundle: &Bundle) -> Bytes {
    let bundle = proto::Bundle {
        snapshot_manifest: Some(encode_digest(&bundle.manifest)),
        transform: bundle.transform.as_ref().map(encode_digest),
        test_config: Some(encode_digest(&bundle.test_config)),
        schema: SCHEMA,
        required_secrets: bundle.required_secrets.iter().map(encode_secret_ref).collect(),
        serve: encode_serve(bundle.serve).into(),
    };
    bundle.encode_to_vec().into()
}

/// The blobs that a bundle names.
#[derive(Debug)]
pub(crate) struct BundleParts {
    pub(crate) manifest: Digest,
    pub(crate) transform: Option<Digest>,
    pub(crate) test_config: Digest,
}

/// Decodes which blobs a bundle names.
pub(crate) fn decode_bundle(bytes: Bytes) -> Result<BundleParts, WireError> {
    let bundle: proto::Bundle = decode("bundle", bytes)?;
    Ok(BundleParts {
        manifest: required(bundle.snapshot_manifest.as_ref())?,
        transform: bundle.transform.as_ref().map(decode_digest).transpose()?,
        test_config: required(bundle.test_config.as_ref())?,
    })
}

/// Encodes an assignment for a responder.
pub(crate) fn encode_assignment(
    name: &str,
    assignment: &Assignment,
    phase: discovery::AssignmentPhase,
) -> discovery::Assignment {
    discovery::Assignment {
        name: name.to_owned(),
        bundle: Some(encode_digest(&assignment.bundle)),
        generation: assignment.generation,
        start_time: Some(timestamp(assignment.start_time)),
        phase: phase.into(),
    }
}

/// Encodes an import's report.
pub(crate) fn encode_report(report: &Report) -> ImportReport {
    ImportReport {
        imported: report.imported,
        skipped: report.skipped,
        refused: report.refused,
        findings: encode_diagnostics(&report.findings),
        redaction: report.redaction.as_ref().map(encode_redaction),
    }
}

fn encode_redaction(redaction: &Redaction) -> RedactionReport {
    RedactionReport {
        dlp_config: redaction.config.clone(),
        rules: redaction.report.rules.iter().map(encode_count).collect(),
        tokens_left: redaction.report.tokens_left.as_ref().map(encode_count),
        unread: redaction.report.unread.as_ref().map(encode_count),
        changes_requests: redaction.changes_requests,
        signatures_stripped: redaction.signatures,
    }
}

fn encode_count(count: &RuleReport) -> RedactionCount {
    let places = count.places.iter();
    RedactionCount {
        rule: count.rule.clone(),
        category: count.category.clone(),
        values: count.values,
        pairs: count.pairs,
        places: places
            .map(|(place, values)| RedactionPlace { place: place.clone(), values: *values })
            .collect(),
        elsewhere: count.elsewhere,
    }
}

/// Encodes findings.
pub(crate) fn encode_diagnostics(findings: &[Diagnostic]) -> Vec<common::Diagnostic> {
    findings.iter().map(encode_diagnostic).collect()
}

/// What a responder says about a replay may have so many findings and secrets; the rest is cut.
const REPORTED: usize = 200;

/// A refusal has so many characters; it is stored, and told in a condition.
const REFUSAL: usize = 1000;

/// Reads what a responder made of an assignment.
pub(crate) fn decode_outcome(outcome: discovery::Outcome) -> Outcome {
    let mut status = outcome.status.unwrap_or_default();
    status.diagnostics.truncate(REPORTED);
    status.secrets.truncate(REPORTED);
    let phase = match status.phase() {
        ResponderPhase::Unspecified | ResponderPhase::Fetching => Phase::Fetching,
        ResponderPhase::Prepared => Phase::Prepared,
        ResponderPhase::Active => Phase::Active,
        ResponderPhase::Rejected => Phase::Rejected,
    };
    let refusal = match status.diagnostics.iter().max_by_key(|found| found.severity) {
        Some(worst) if phase == Phase::Rejected => worst.message.chars().take(REFUSAL).collect(),
        None if phase == Phase::Rejected => "it gave no reason".to_owned(),
        _ => String::new(),
    };
    let unresolved = status
        .secrets
        .iter()
        .filter(|secret| !secret.resolved)
        .filter_map(|secret| secret.r#ref.as_ref().map(|name| (name, &secret.error)))
        .map(|(name, error)| format!("{}/{} ({error})", name.secret, name.key))
        .collect();
    // An outcome without a usable digest is about no bundle that we know.
    let bundle = outcome.bundle.as_ref().and_then(|digest| decode_digest(digest).ok());
    let generation = status.generation;
    let report = status.encode_to_vec().into();
    Outcome { bundle, generation, phase, refusal, unresolved, report }
}

/// A responder's status as it reported it; before it did, that it was told.
pub(crate) fn encode_status(responder: &str, outcome: Option<&Outcome>) -> ResponderStatus {
    let status = outcome
        .and_then(|outcome| ResponderStatus::decode(outcome.report.clone()).ok())
        .unwrap_or_default();
    ResponderStatus { responder: responder.to_owned(), ..status }
}

pub(super) fn required(digest: Option<&common::Digest>) -> Result<Digest, WireError> {
    decode_digest(digest.ok_or(WireError::Range { what: "digest" })?)
}

#[cfg(test)]
mod tests {
    use countersign_engine::{dlp::StoredTreatment, jwt::key::SecretRef, snapshot::Serve};

    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut: u8, flip: u8) {
            let digest = Digest::of(b"x");
            let stored = manifest::Stored {
                chunks: vec![(digest, 3)],
                pages: vec![digest; 2],
                ordinals: Some(digest),
                pairs: 3,
                treatment: Some(StoredTreatment::default()),
            };
            let mut damaged = encode_manifest(&stored).to_vec();
            let at = usize::from(flip) % damaged.len();
            damaged[at] ^= 1 << (flip % 8);
            damaged.truncate(damaged.len() - usize::from(cut) % damaged.len());
            for bytes in [bytes, damaged].map(Bytes::from) {
                // What is read is the same when it is read again; anything else is an error, and nothing panics.
                if let Ok(read) = decode_manifest(bytes.clone()) {
                    proptest::prop_assert_eq!(decode_manifest(encode_manifest(&read)).unwrap(), read);
                }
                if let Ok(page) = decode_page(bytes.clone()) {
                    proptest::prop_assert_eq!(decode_page(encode_page(&page)).unwrap(), page);
                }
                if let Ok(held) = decode_holding(bytes) {
                    proptest::prop_assert_eq!(decode_holding(encode_holding(&held)).unwrap(), held);
                }
            }
        }
    }

    #[test]
    fn manifests_and_bundles_come_back() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let manifest = manifest::Stored {
            chunks: vec![(digest("a"), 3), (digest("b"), 4)],
            pages: vec![digest("p"), digest("q")],
            ordinals: Some(digest("o")),
            pairs: 7,
            treatment: Some(StoredTreatment {
                config: Bytes::from_static(b"{}"),
                key: Bytes::from_static(b"k"),
                stripped: true,
            }),
        };
        assert_eq!(decode_manifest(encode_manifest(&manifest)).unwrap(), manifest);
        assert_eq!(decode_page(encode_page(&manifest.chunks)).unwrap(), manifest.chunks);
        let bundle = Bundle {
            manifest: digest("m"),
            transform: Some(digest("t")),
            test_config: digest("c"),
            required_secrets: vec![SecretRef { secret: "s".into(), key: "k".into() }],
            serve: Serve::All,
        };
        let parts = decode_bundle(encode_bundle(&bundle)).unwrap();
        assert_eq!(
            (parts.manifest, parts.transform, parts.test_config),
            (bundle.manifest, bundle.transform, bundle.test_config)
        );
        assert!(
            decode_manifest(Bytes::from_static(b"\x0a\x00")).is_err(),
            "a chunk without a digest"
        );
    }
}
