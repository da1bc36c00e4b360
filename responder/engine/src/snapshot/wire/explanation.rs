//! Explanations as messages.

use countersign_proto::snapshot::v1 as proto;

use crate::explain::{Candidate, Credential, Explanation, Outcome};

/// Encodes an explanation.
#[must_use]
pub fn encode_explanation(explanation: Explanation) -> proto::Explanation {
    let Explanation { chains, presented: _, signature, credentials, outcome } = explanation;
    let entry =
        |(key, value): (String, Vec<u8>)| proto::SignatureEntry { key, value: value.into() };
    let credential = |Credential { place, what }| proto::Credential { place, what };
    let told = proto::Explanation {
        chains,
        signature: signature.into_iter().map(entry).collect(),
        credentials: credentials.into_iter().map(credential).collect(),
        ..proto::Explanation::default()
    };
    match outcome {
        Outcome::Hit { candidates, chosen, narrowing } => proto::Explanation {
            narrowing: narrowing.tell(candidates.len()),
            recorded: u32::try_from(narrowing.recorded).unwrap_or(u32::MAX),
            identity: narrowing.identity,
            chosen: u32::try_from(chosen).unwrap_or(u32::MAX),
            candidates: candidates.iter().map(candidate).collect(),
            ..told
        },
        Outcome::Stub(stub) => proto::Explanation { stub, ..told },
        Outcome::Miss(nearest) => {
            let near_miss_json = serde_json::to_string(&nearest).unwrap_or_default();
            proto::Explanation { near_miss_json, ..told }
        }
    }
}

fn candidate(candidate: &Candidate) -> proto::Candidate {
    proto::Candidate {
        ordinal: candidate.ordinal,
        status: candidate.status.into(),
        tokens: candidate.tokens,
        way: candidate.way.to_owned(),
    }
}
