//! `countersign snapshot tokens`: where tokens come from and go to.

use clap::Args;
use countersign_proto::control::v1::{
    AnalyzeTokensRequest, Endpoint, FalseFriend, KeyDocument, TokenFamily, TokenForm, TokenOrigin,
    TokenRefresh, TokenReport, TokenSighting, key_document::Kind,
};
use serde_json::{Value, json};

use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::Output,
    view::View,
};

/// Shows the tokens of a snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Tokens that are alike share a row: where responses issue them, where requests present them, how
long they live. An orphan is presented, but no response of the recording issues it. Tokens
themselves are never shown; with `--output json` each goes by a short digest.

Examples:
  countersign snapshot tokens login
  countersign snapshot tokens login --output json | jq .falseFriends
  countersign transform suggest login    # the template that re-signs them")]
pub(crate) struct TokensArgs {
    /// The snapshot
    id: String,
}

/// So many false friends are told to people.
const FRIENDS: usize = 10;

/// Runs the command.
pub(crate) async fn run(args: &TokensArgs, client: &Client, out: &Output) -> Result<(), Failure> {
    let request = AnalyzeTokensRequest { name: client.name(Collection::Snapshots, &args.id) };
    let got = client.snapshots().analyze_tokens(request).await;
    let got = got.map_err(Failure::rpc(format!("show the tokens of the snapshot {}", args.id)))?;
    let report = got.into_inner().report.unwrap_or_default();
    if out.is_json() {
        out.json(&as_json(&report));
        return Ok(());
    }
    out.many(&report.families, "there are no tokens in this snapshot");
    for line in beside(&report) {
        out.text(&line);
    }
    Ok(())
}

impl View for TokenFamily {
    const HEADINGS: &'static [&'static str] =
        &["TOKENS", "KIND", "KID", "ISSUER", "ISSUED AT", "USES", "USED AT", "LIFETIME", "NOTE"];

    fn row(&self) -> Vec<String> {
        let kind = match self.form() {
            TokenForm::Jws => self.alg.clone(),
            TokenForm::Jwe => format!("JWE {}", self.alg),
            TokenForm::Opaque | TokenForm::Unspecified => "opaque".to_owned(),
        };
        vec![
            self.token_count.to_string(),
            kind,
            self.kid.clone(),
            self.iss.clone(),
            first(&self.issued),
            self.use_count.to_string(),
            first(&self.used),
            lifetime(self),
            note(self),
        ]
    }

    fn json(&self) -> Value {
        let members = self.members.iter().map(|member| {
            json!({
                "id": member.id,
                "sub": member.sub,
                "iat": member.iat,
                "exp": member.exp,
                "useCount": member.use_count,
                "firstRecord": member.first_record,
            })
        });
        json!({
            "form": self.form().as_str_name().trim_start_matches("TOKEN_FORM_"),
            "alg": self.alg,
            "kid": self.kid,
            "typ": self.typ,
            "iss": self.iss,
            "aud": self.aud,
            "origin": self.origin().as_str_name().trim_start_matches("TOKEN_ORIGIN_"),
            "issued": self.issued.iter().map(sighting).collect::<Vec<_>>(),
            "used": self.used.iter().map(sighting).collect::<Vec<_>>(),
            "tokenCount": self.token_count,
            "useCount": self.use_count,
            "neverUsedCount": self.never_used_count,
            "minLifetimeSeconds": self.min_lifetime_seconds,
            "maxLifetimeSeconds": self.max_lifetime_seconds,
            "refusalCode": self.refusal_code,
            "refusal": self.refusal,
            "jwks": self.jwks.as_ref().map(endpoint),
            "jwksBy": self.jwks_by,
            "members": members.collect::<Vec<_>>(),
            "sightingsLeftOut": self.sightings_left_out,
        })
    }
}

/// The first sighting, and how many more there are.
fn first(sightings: &[TokenSighting]) -> String {
    let Some(first) = sightings.first() else { return String::new() };
    let at = first.endpoint.as_ref().map(endpoint).unwrap_or_default();
    match sightings.len() - 1 {
        0 => format!("{at} {}", first.place),
        more => format!("{at} {} (+{more})", first.place),
    }
}

fn lifetime(family: &TokenFamily) -> String {
    match (family.min_lifetime_seconds, family.max_lifetime_seconds) {
        (Some(min), Some(max)) if min != max => format!("{}-{}", duration(min), duration(max)),
        (Some(min), _) => duration(min),
        (None, _) => String::new(),
    }
}

fn duration(seconds: i64) -> String {
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds != 0 && seconds % size == 0 {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

fn note(family: &TokenFamily) -> String {
    let mut notes = Vec::new();
    if family.origin() == TokenOrigin::Orphan {
        notes.push("orphan".to_owned());
    } else if family.never_used_count == family.token_count {
        notes.push("never used".to_owned());
    } else if family.never_used_count > 0 {
        notes.push(format!("{} never used", family.never_used_count));
    }
    if !family.refusal_code.is_empty() {
        notes.push(family.refusal_code.clone());
    }
    if let Some(jwks) = &family.jwks {
        notes.push(format!("keys at {}", endpoint(jwks)));
    }
    notes.join(", ")
}

/// What is told below the table.
fn beside(report: &TokenReport) -> Vec<String> {
    let mut lines = Vec::new();
    let at = |of: &Option<Endpoint>| of.as_ref().map(endpoint).unwrap_or_default();
    for refresh in &report.refreshes {
        let TokenRefresh { presented, issued, count, .. } = refresh;
        let at = at(&refresh.endpoint);
        lines.push(format!("refresh: {at} {presented} → {} ({count}x)", issued.join(", ")));
    }
    for document in &report.documents {
        let KeyDocument { count, .. } = document;
        let what = match &document.kind {
            Some(Kind::Jwks(keys)) => format!("key set with kid {}", keys.kids.join(", ")),
            Some(Kind::Discovery(found)) => {
                format!("discovery of {}, keys at {}", found.issuer, found.jwks_uri)
            }
            None => continue,
        };
        lines.push(format!("keys: {}: {what} ({count}x)", at(&document.endpoint)));
    }
    for FalseFriend { shown, why, sighting } in report.false_friends.iter().take(FRIENDS) {
        let place = sighting.as_ref().map(|at| format!("{}x", at.count)).unwrap_or_default();
        lines.push(format!("no token: {shown} is {why} ({place})"));
    }
    let left_out = report.left_out.unwrap_or_default();
    let friends = report.false_friends.len().saturating_sub(FRIENDS);
    if friends > 0 {
        lines.push(format!("no token: and {friends} more, see --output json"));
    }
    if left_out.sightings + left_out.families > 0 {
        lines.push(format!(
            "left out: {} appearances of further tokens, {} rows",
            left_out.sightings, left_out.families
        ));
    }
    lines
}

fn endpoint(endpoint: &Endpoint) -> String {
    format!("{} {}{}", endpoint.method, endpoint.host, endpoint.route)
}

fn sighting(sighting: &TokenSighting) -> Value {
    json!({
        "endpoint": sighting.endpoint.as_ref().map(endpoint),
        "place": sighting.place,
        "count": sighting.count,
    })
}

fn as_json(report: &TokenReport) -> Value {
    let at = |of: &Option<Endpoint>| of.as_ref().map(endpoint);
    let refreshes = report.refreshes.iter().map(|refresh| {
        json!({
            "endpoint": at(&refresh.endpoint),
            "presented": refresh.presented,
            "issued": refresh.issued,
            "count": refresh.count,
            "knownCount": refresh.known_count,
        })
    });
    let documents = report.documents.iter().map(|document| {
        let (jwks, discovery) = match &document.kind {
            Some(Kind::Jwks(keys)) => (Some(json!({"kids": keys.kids, "types": keys.types})), None),
            Some(Kind::Discovery(found)) => {
                (None, Some(json!({"issuer": found.issuer, "jwksUri": found.jwks_uri})))
            }
            None => (None, None),
        };
        json!({
            "endpoint": at(&document.endpoint),
            "count": document.count,
            "jwks": jwks,
            "discovery": discovery,
        })
    });
    let friends = report.false_friends.iter().map(|friend| {
        json!({
            "shown": friend.shown,
            "why": friend.why,
            "sighting": friend.sighting.as_ref().map(sighting),
        })
    });
    let left_out = report.left_out.unwrap_or_default();
    json!({
        "pairCount": report.pair_count,
        "tokenCount": report.token_count,
        "families": report.families.iter().map(View::json).collect::<Vec<_>>(),
        "refreshes": refreshes.collect::<Vec<_>>(),
        "documents": documents.collect::<Vec<_>>(),
        "falseFriends": friends.collect::<Vec<_>>(),
        "leftOut": {
            "sightings": left_out.sightings,
            "falseFriends": left_out.false_friends,
            "families": left_out.families,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: &str) -> TokenSighting {
        let endpoint = Endpoint { method: "POST".into(), host: "h".into(), route: "/login".into() };
        TokenSighting { endpoint: Some(endpoint), place: place.into(), count: 3 }
    }

    #[test]
    fn a_row_says_where_from_and_where_to() {
        let family = TokenFamily {
            form: TokenForm::Jws.into(),
            alg: "HS256".into(),
            origin: TokenOrigin::Issued.into(),
            issued: vec![at("body access_token")],
            used: vec![at("header authorization Bearer"), at("cookie sid")],
            token_count: 3,
            use_count: 6,
            never_used_count: 1,
            min_lifetime_seconds: Some(900),
            max_lifetime_seconds: Some(3600),
            ..TokenFamily::default()
        };
        assert_eq!(
            family.row(),
            [
                "3",
                "HS256",
                "",
                "",
                "POST h/login body access_token",
                "6",
                "POST h/login header authorization Bearer (+1)",
                "15m-1h",
                "1 never used"
            ]
        );
        assert_eq!(family.row().len(), TokenFamily::HEADINGS.len());
        let json = family.json();
        assert_eq!((&json["form"], &json["origin"]), (&json!("JWS"), &json!("ISSUED")));
        let orphan = TokenFamily { origin: TokenOrigin::Orphan.into(), ..TokenFamily::default() };
        assert_eq!(orphan.row()[8], "orphan");
    }

    #[test]
    fn durations_are_whole() {
        let told: Vec<String> = [0, 59, 90, 900, 7200, 172_800].map(duration).into();
        assert_eq!(told, ["0s", "59s", "90s", "15m", "2h", "2d"]);
    }
}
