//! Between the domain's types and the wire's: the only place in the engine that knows protobuf.

mod explanation;
mod field;
mod pair;
mod stub;

pub use self::explanation::encode_explanation;
pub(crate) use self::pair::{Part, read_into, spans};
use bytes::Bytes;
use countersign_proto::{snapshot::v1 as proto, r#type::v1 as common};
use prost::Message as _;

use super::{
    Direction, Header, HttpRequest, HttpResponse, RrPair, Serve,
    digest::{Digest, Function},
    stub::Stub,
};
use crate::{
    diagnostic::{Diagnostic, Severity},
    dlp::StoredTreatment,
    jwt::key::SecretRef,
};

/// Why bytes from a peer or a disk are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes are no message of the expected type.
    #[error("malformed {what}")]
    Decode {
        /// The expected message.
        what: &'static str,
        /// What the decoder found.
        #[source]
        source: prost::DecodeError,
    },
    /// A field has a value outside its domain.
    #[error("{what} is out of range")]
    Range {
        /// The field.
        what: &'static str,
    },
}

/// Encodes a pair.
#[must_use]
pub fn encode_pair(pair: RrPair) -> proto::RrPair {
    proto::RrPair {
        uuid: pair.uuid.map(|id| Bytes::copy_from_slice(&id)).unwrap_or_default(),
        ts: pair.ts.map(timestamp),
        direction: match pair.direction {
            Direction::In => proto::Direction::In.into(),
            Direction::Out => proto::Direction::Out.into(),
        },
        duration: Some(prost_types::Duration {
            seconds: i64::try_from(pair.duration / NANOS).unwrap_or(i64::MAX),
            nanos: i32::try_from(pair.duration % NANOS).unwrap_or_default(),
        }),
        l7protocol: pair.l7protocol,
        service: pair.service,
        cluster: pair.cluster,
        namespace: pair.namespace,
        tech: pair.tech,
        network_address: pair.network_address,
        command: pair.command,
        location: pair.location,
        status: pair.status,
        tags: pair.tags.into_iter().collect(),
        session: pair.session,
        request: pair.request.map(|r| proto::HttpRequest {
            method: r.method,
            path: r.path,
            query: r.query,
            version: r.version,
            host: r.host,
            headers: encode_headers(r.headers),
            body: r.body,
        }),
        response: Some(proto::HttpResponse {
            status: u32::from(pair.response.status),
            status_message: pair.response.status_message,
            headers: encode_headers(pair.response.headers),
            body: pair.response.body,
        }),
        signature: pair
            .signature
            .into_iter()
            .map(|(key, value)| proto::SignatureEntry { key, value })
            .collect(),
        extra_json: pair.extra_json.into(),
        ordinal: pair.ordinal,
        stub: pair.stub.map(|stub| stub::encode(*stub)),
    }
}

/// Decodes a pair.
///
/// # Errors
/// When a field is outside its domain.
pub fn decode_pair(pair: proto::RrPair) -> Result<RrPair, WireError> {
    let response = pair.response.unwrap_or_default();
    Ok(RrPair {
        uuid: <[u8; 16]>::try_from(&pair.uuid[..]).ok(),
        ts: pair.ts.map(nanos).transpose()?,
        direction: match proto::Direction::try_from(pair.direction) {
            Ok(proto::Direction::In) => Direction::In,
            _ => Direction::Out,
        },
        duration: pair.duration.map_or(Ok(0), |d| {
            let seconds =
                u64::try_from(d.seconds).map_err(|_| WireError::Range { what: "duration" })?;
            Ok(seconds
                .saturating_mul(NANOS)
                .saturating_add(u64::try_from(d.nanos).unwrap_or_default()))
        })?,
        l7protocol: pair.l7protocol,
        service: pair.service,
        cluster: pair.cluster,
        namespace: pair.namespace,
        tech: pair.tech,
        network_address: pair.network_address,
        command: pair.command,
        location: pair.location,
        status: pair.status,
        tags: pair.tags.into_iter().collect(),
        session: pair.session,
        request: pair.request.map(|r| HttpRequest {
            method: r.method,
            path: r.path,
            query: r.query,
            version: r.version,
            host: r.host,
            headers: decode_headers(r.headers),
            body: r.body,
        }),
        response: HttpResponse {
            status: u16::try_from(response.status)
                .map_err(|_| WireError::Range { what: "response.status" })?,
            status_message: response.status_message,
            headers: decode_headers(response.headers),
            body: response.body,
        },
        signature: pair.signature.into_iter().map(|entry| (entry.key, entry.value)).collect(),
        extra_json: String::from_utf8(pair.extra_json.into())
            .map_err(|_| WireError::Range { what: "extra_json" })?,
        ordinal: pair.ordinal,
        stub: pair.stub.map(stub::decode).transpose()?.map(Box::new),
    })
}

/// A stub as bytes, for a format that has a place for bytes.
#[must_use]
pub fn stub_to_bytes(stub: Stub) -> Vec<u8> {
    stub::encode(stub).encode_to_vec()
}

/// The stub of such bytes.
///
/// # Errors
/// When the bytes are no stub, or one beyond the limits.
pub fn stub_from_bytes(bytes: &[u8]) -> Result<Stub, WireError> {
    let stub =
        proto::Stub::decode(bytes).map_err(|source| WireError::Decode { what: "stub", source })?;
    stub::decode(stub)
}

/// Decodes a chunk; bodies share its buffer.
///
/// # Errors
/// When the bytes are no chunk.
pub fn decode_chunk(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<RrPair>, WireError> {
    decode_chunk_bytes(Bytes::copy_from_slice(bytes.as_ref()))
}

/// Decodes a chunk without copying; bodies are slices of `bytes`.
///
/// # Errors
/// When the bytes are no chunk.
pub fn decode_chunk_bytes(bytes: Bytes) -> Result<Vec<RrPair>, WireError> {
    let chunk = proto::Chunk::decode(bytes)
        .map_err(|source| WireError::Decode { what: "chunk", source })?;
    chunk.pairs.into_iter().map(decode_pair).collect()
}

/// A chunk in the form that [`spans`] reads, or its pairs as a chunk each.
pub(crate) fn plain_chunks(chunk: Bytes) -> Result<Vec<Bytes>, WireError> {
    if pair::is_plain(&chunk) {
        return Ok(vec![chunk]);
    }
    let chunk = proto::Chunk::decode(chunk)
        .map_err(|source| WireError::Decode { what: "chunk", source })?;
    let alone = |pair| proto::Chunk { pairs: vec![pair] }.encode_to_vec().into();
    Ok(chunk.pairs.into_iter().map(alone).collect())
}

/// Where an encoded pair of a chunk belongs: its ordinal, and which way it went.
pub(crate) fn place(chunk: &Bytes, pair: &[u8]) -> Result<(u64, Direction), WireError> {
    if let Some(place) = pair::place(pair) {
        return Ok(place);
    }
    let mut read = RrPair::default();
    read_into(chunk, pair, Part::Whole, &mut read)?;
    Ok((read.ordinal, read.direction))
}

/// Encodes a digest.
#[must_use]
pub fn encode_digest(digest: &Digest) -> common::Digest {
    common::Digest {
        function: encode_function(digest.function()).into(),
        hash: Bytes::copy_from_slice(digest.hash()),
        size_bytes: digest.size(),
    }
}

/// Encodes the function of a digest.
#[must_use]
pub fn encode_function(function: Function) -> common::DigestFunction {
    match function {
        Function::Blake3 => common::DigestFunction::Blake3,
        Function::Sha256 => common::DigestFunction::Sha256,
    }
}

/// Decodes a digest.
///
/// # Errors
/// When the function is unknown or the hash has the wrong length.
pub fn decode_digest(digest: &common::Digest) -> Result<Digest, WireError> {
    let function = match digest.function() {
        common::DigestFunction::Blake3 => Function::Blake3,
        common::DigestFunction::Sha256 => Function::Sha256,
        common::DigestFunction::Unspecified => {
            return Err(WireError::Range { what: "digest.function" });
        }
    };
    let hash = <[u8; 32]>::try_from(&digest.hash[..])
        .map_err(|_| WireError::Range { what: "digest.hash" })?;
    Ok(Digest::from_parts(function, hash, digest.size_bytes))
}

/// Encodes what was done to a recording.
#[must_use]
pub fn encode_treatment(treatment: &StoredTreatment) -> proto::Treatment {
    proto::Treatment {
        dlp_config: treatment.config.clone(),
        redaction_key: treatment.key.clone(),
        signatures_stripped: treatment.stripped,
    }
}

/// Decodes what was done to a recording.
#[must_use]
pub fn decode_treatment(treatment: proto::Treatment) -> StoredTreatment {
    StoredTreatment {
        config: treatment.dlp_config,
        key: treatment.redaction_key,
        stripped: treatment.signatures_stripped,
    }
}

/// Encodes a finding.
#[must_use]
pub fn encode_diagnostic(found: &Diagnostic) -> common::Diagnostic {
    common::Diagnostic {
        severity: match found.severity {
            Severity::Info => common::Severity::Info.into(),
            Severity::Warning => common::Severity::Warning.into(),
            Severity::Error => common::Severity::Error.into(),
        },
        code: found.code.to_owned(),
        field_path: found.path.clone(),
        message: found.message.clone(),
        hint: found.hint.clone(),
        subject: found.subject.clone(),
        line: found.line,
        count: found.count,
        record: found.record,
        byte_offset: found.offset,
    }
}

/// Encodes the name of a secret's key.
#[must_use]
pub fn encode_secret_ref(secret: &SecretRef) -> common::SecretRef {
    common::SecretRef { secret: secret.secret.clone(), key: secret.key.clone() }
}

/// Encodes which pairs are served.
#[must_use]
pub fn encode_serve(serve: Serve) -> proto::ServeDirection {
    match serve {
        Serve::Out => proto::ServeDirection::Out,
        Serve::In => proto::ServeDirection::In,
        Serve::All => proto::ServeDirection::All,
    }
}

/// Decodes which pairs are served; unset means OUT.
#[must_use]
pub fn decode_serve(serve: proto::ServeDirection) -> Serve {
    match serve {
        proto::ServeDirection::Unspecified | proto::ServeDirection::Out => Serve::Out,
        proto::ServeDirection::In => Serve::In,
        proto::ServeDirection::All => Serve::All,
    }
}

/// A protobuf timestamp of nanoseconds since the epoch.
#[must_use]
pub fn timestamp(nanos: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(NANOS_SIGNED),
        nanos: i32::try_from(nanos.rem_euclid(NANOS_SIGNED)).unwrap_or_default(),
    }
}

/// Nanoseconds since the epoch of a protobuf timestamp.
///
/// # Errors
/// When they do not fit, which is after the year 2262 or before 1677.
pub fn nanos(ts: prost_types::Timestamp) -> Result<i64, WireError> {
    ts.seconds
        .checked_mul(NANOS_SIGNED)
        .and_then(|nanos| nanos.checked_add(i64::from(ts.nanos)))
        .ok_or(WireError::Range { what: "timestamp" })
}

const NANOS: u64 = 1_000_000_000;
const NANOS_SIGNED: i64 = 1_000_000_000;

fn encode_headers(headers: Vec<Header>) -> Vec<proto::Header> {
    headers.into_iter().map(|h| proto::Header { name: h.name, value: h.value }).collect()
}

fn decode_headers(headers: Vec<proto::Header>) -> Vec<Header> {
    headers.into_iter().map(|h| Header { name: h.name, value: h.value }).collect()
}
