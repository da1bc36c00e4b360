//! Token lineage of a stored snapshot. Its chunks are read one after the other, so that it is never in memory as a whole.

use std::sync::Arc;

use countersign_engine::{
    diagnostic::Diagnostic,
    lineage::{
        Analysis, Analyzer, Check, DocumentKind, Endpoint, FalseFriend, Family, Form, KeyDocument,
        LeftOut, Member, Options, Origin, Refresh, Report, SecretUse, Sighting, Suggestion,
        suggest,
    },
    snapshot::{RrPair, digest::Digest, wire::encode_secret_ref},
};
use countersign_proto::control::v1 as proto;
use prost::Message as _;

use super::{Plane, Problem};
use crate::{
    content::{self, Manifest},
    store, validate,
};

/// A report is cut at this size, because clients refuse messages of more than 4 MiB by default.
const MAX_REPORT: usize = 2 * 1024 * 1024;

/// Finds the tokens of a snapshot.
pub(crate) async fn analyze(plane: &Plane, manifest: Digest) -> Result<Analysis, Problem> {
    let manifest = Manifest::get(&*plane.blobs, manifest).await?;
    let analyzer = each_chunk(plane, &manifest, Analyzer::default(), Analyzer::push).await?;
    Ok(store::blocking(move || analyzer.finish()).await?)
}

/// A template for a snapshot, everything found about it, and how many tokens it re-signs.
pub(crate) async fn suggestion(
    plane: &Plane,
    manifest: Digest,
    options: &Options,
) -> Result<(Suggestion, u64), Problem> {
    let config = validate::standard().map_err(|findings| Problem::Unusable {
        what: "the built-in test config".to_owned(),
        reason: "INVALID_TEST_CONFIG",
        findings,
    })?;
    let analysis = Arc::new(analyze(plane, manifest).await?);
    let mut suggestion = suggest(&analysis, options);
    let manifest = Manifest::get(&*plane.blobs, manifest).await?;
    let check = Check::new(&analysis, &suggestion, config);
    let check = each_chunk(plane, &manifest, check, Check::push).await?;
    let (covered, missed) = check.finish();
    let known: Vec<Diagnostic> =
        missed.into_iter().filter(|finding| !suggestion.findings.contains(finding)).collect();
    suggestion.findings.extend(known);
    Ok((suggestion, covered))
}

/// Hands each pair to `look`, chunk by chunk and away from the runtime's threads.
pub(super) async fn each_chunk<T: Send + 'static>(
    plane: &Plane,
    manifest: &Manifest,
    mut looker: T,
    look: fn(&mut T, &RrPair),
) -> Result<T, Problem> {
    for chunk in &manifest.chunks {
        let pairs = content::chunk(&*plane.blobs, chunk).await?;
        looker = store::blocking(move || {
            pairs.iter().for_each(|pair| look(&mut looker, pair));
            looker
        })
        .await?;
    }
    Ok(looker)
}

/// Encodes a report, of which the last families are left out when it is too large.
pub(crate) fn encode_report(report: &Report) -> proto::TokenReport {
    let mut encoded = proto::TokenReport {
        pair_count: report.pairs,
        token_count: report.tokens,
        families: report.families.iter().map(family).collect(),
        refreshes: report.refreshes.iter().map(refresh).collect(),
        documents: report.documents.iter().map(document).collect(),
        false_friends: report.false_friends.iter().map(friend).collect(),
        left_out: Some(limits(report.left_out)),
    };
    let mut size = encoded.encoded_len();
    while size > MAX_REPORT
        && let Some(last) = encoded.families.pop()
    {
        size = size.saturating_sub(last.encoded_len());
        if let Some(left_out) = &mut encoded.left_out {
            left_out.families += 1;
        }
    }
    encoded
}

/// Encodes the secrets of a suggestion.
pub(crate) fn encode_secrets(secrets: &[SecretUse]) -> Vec<proto::SuggestedSecret> {
    let secrets = secrets.iter().map(|needed| proto::SuggestedSecret {
        secret: Some(encode_secret_ref(&needed.secret)),
        key: needed.key.to_owned(),
        iss: needed.iss.clone(),
        kid: needed.kid.clone(),
        token_count: needed.tokens,
    });
    secrets.collect()
}

fn family(family: &Family) -> proto::TokenFamily {
    let form = match family.kind.form {
        Form::Jws => proto::TokenForm::Jws,
        Form::Jwe => proto::TokenForm::Jwe,
        Form::Opaque => proto::TokenForm::Opaque,
    };
    let origin = match family.origin {
        Origin::Issued => proto::TokenOrigin::Issued,
        Origin::Orphan => proto::TokenOrigin::Orphan,
    };
    let (refusal_code, refusal) = family.refusal.clone().unwrap_or_default();
    proto::TokenFamily {
        form: form.into(),
        alg: family.kind.alg.clone(),
        kid: family.kind.kid.clone(),
        typ: family.kind.typ.clone(),
        iss: family.kind.iss.clone(),
        aud: family.kind.aud.clone(),
        origin: origin.into(),
        issued: family.issued.iter().map(sighting).collect(),
        used: family.used.iter().map(sighting).collect(),
        token_count: family.tokens,
        use_count: family.uses,
        never_used_count: family.never_used,
        min_lifetime_seconds: family.lifetime.map(|lifetime| lifetime.0),
        max_lifetime_seconds: family.lifetime.map(|lifetime| lifetime.1),
        refusal_code: refusal_code.to_owned(),
        refusal,
        jwks: family.jwks.as_ref().map(|link| endpoint(&link.endpoint)),
        jwks_by: family.jwks.as_ref().map_or("", |link| link.by).to_owned(),
        members: family.members.iter().map(member).collect(),
        sightings_left_out: family.sightings_left_out,
    }
}

fn endpoint(endpoint: &Endpoint) -> proto::Endpoint {
    proto::Endpoint {
        method: endpoint.method.clone(),
        host: endpoint.host.clone(),
        route: endpoint.route.clone(),
    }
}

fn sighting(sighting: &Sighting) -> proto::TokenSighting {
    proto::TokenSighting {
        endpoint: Some(endpoint(&sighting.endpoint)),
        place: sighting.place.clone(),
        count: sighting.count,
    }
}

fn member(member: &Member) -> proto::TokenMember {
    proto::TokenMember {
        id: member.id.to_string(),
        sub: member.sub.clone(),
        iat: member.iat,
        exp: member.exp,
        use_count: member.uses,
        first_record: member.first_pair,
    }
}

fn refresh(refresh: &Refresh) -> proto::TokenRefresh {
    proto::TokenRefresh {
        endpoint: Some(endpoint(&refresh.endpoint)),
        presented: refresh.presented.clone(),
        issued: refresh.issued.clone(),
        count: refresh.count,
        known_count: refresh.known,
    }
}

fn document(document: &KeyDocument) -> proto::KeyDocument {
    use proto::key_document::Kind;
    let kind = match &document.kind {
        DocumentKind::Jwks { kids, types } => {
            Kind::Jwks(proto::KeySet { kids: kids.clone(), types: types.clone() })
        }
        DocumentKind::Discovery { issuer, jwks_uri } => {
            Kind::Discovery(proto::Discovery { issuer: issuer.clone(), jwks_uri: jwks_uri.clone() })
        }
    };
    proto::KeyDocument {
        endpoint: Some(endpoint(&document.endpoint)),
        count: document.count,
        kind: Some(kind),
    }
}

fn friend(friend: &FalseFriend) -> proto::FalseFriend {
    proto::FalseFriend {
        shown: friend.shown.clone(),
        why: friend.why.to_owned(),
        sighting: Some(proto::TokenSighting {
            endpoint: Some(endpoint(&friend.endpoint)),
            place: friend.place.clone(),
            count: friend.count,
        }),
    }
}

fn limits(left_out: LeftOut) -> proto::TokenReportLimits {
    proto::TokenReportLimits {
        sightings: left_out.sightings,
        false_friends: left_out.false_friends,
        families: left_out.families,
    }
}
