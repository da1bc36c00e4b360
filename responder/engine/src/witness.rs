//! What may be told of a request that was served, for a journal: who asked for what, and for whom the answer was recorded.
//!
//! It is worked out when somebody looks, not when the request is served, from the request as it came. No credential is told: where one
//! stands, there is what it is and whose.

use bytes::Bytes;

use crate::{
    answer::Origin,
    dlp::Veil,
    identity::{Who, is_token_byte, presented},
    near_miss::{self, Entry, Presented},
    request::{Parts, Request, joined},
    serving::Serving,
    signature::Signature,
    transform::{Scope, Side},
};

/// A request without its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veiled {
    /// The path.
    pub path: String,
    /// The query, decoded and sorted.
    pub query: String,
    /// The header fields, in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unfolded.
    pub body: Bytes,
}

/// What a replay can say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// What it was matched by.
    pub signature: Vec<Entry>,
    /// What is known of the credentials that it presents.
    pub credentials: Vec<Presented>,
    /// Who asked, in words that give nothing away; `None` where the recording tells nobody apart.
    pub asked_by: Option<String>,
    /// For whom the answer was recorded, when that is somebody else.
    pub answered_for: Option<String>,
}

/// A request without its credentials. `now` is in nanoseconds since the epoch.
#[must_use]
pub fn veiled(request: &Request<'_>, veil: &Veil, now: i64) -> Veiled {
    let mut parts = Parts::of_live(request);
    veil.request(&mut parts);
    let credentials: Vec<(String, String)> = presented(request)
        .into_iter()
        .filter_map(|(place, credential)| {
            Some((place.strip_prefix("header ")?.to_owned(), credential.tell(now)))
        })
        .collect();
    let header = |(name, value): (String, Bytes)| {
        let told = credentials.iter().find(|credential| credential.0 == name);
        let value = match (told, scheme(request, &name)) {
            (Some((_, what)), Some(scheme)) => format!("{scheme} <{what}>"),
            (Some((_, what)), None) => format!("<{what}>"),
            (None, _) => String::from_utf8_lossy(&without_tokens(&value)).into_owned(),
        };
        (name, value)
    };
    let text = |text: &str| String::from_utf8_lossy(&without_tokens(text.as_bytes())).into_owned();
    Veiled {
        path: text(&parts.path),
        query: text(&joined(&parts.query)),
        headers: parts.headers.into_iter().map(header).collect(),
        body: without_tokens(&parts.body).into(),
    }
}

/// The word before a credential.
fn scheme<'r>(request: &Request<'r>, name: &str) -> Option<&'r str> {
    let (scheme, _) = request.headers.get(name)?.to_str().ok()?.trim().split_once(' ')?;
    (scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(scheme)
}

/// A text in which no JWS stands any more, whatever surrounds it: rather too much is taken than a part of one left.
fn without_tokens(text: &[u8]) -> Vec<u8> {
    /// How every JOSE header begins, which is an object.
    const BEGIN: &[u8] = b"eyJ";
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(BEGIN.len()).position(|window| window == BEGIN) {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let run = from.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(from.len());
        let (token, after) = from.split_at_checked(run).unwrap_or((from, &[]));
        out.extend_from_slice(before);
        out.extend_from_slice(if token.contains(&b'.') { b"<token>" } else { token });
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

impl Serving {
    /// What can be said of a request, and of its answer if it came from a recorded pair. Nothing moves. `now` is in nanoseconds since the
    /// epoch.
    #[must_use]
    pub fn witness(
        &self,
        request: &Request<'_>,
        origin: Option<Origin>,
        veil: &Veil,
        now: i64,
    ) -> Witness {
        let snapshot = self.snapshot();
        let live = Parts::of_live(request);
        let looking = Scope::looking(&snapshot.world, Side::Request, now);
        let mut first = None;
        let found = snapshot.plan.run_on_live(&live, looking, |parts, scope| {
            let signed = (snapshot.signature_of(parts, scope), scope.session.clone());
            let hit = snapshot.index.get(&signed.0).is_some();
            first.get_or_insert_with(|| signed.clone());
            hit.then_some(signed)
        });
        let (signature, session) = found
            .map(|found| found.0)
            .or(first)
            .unwrap_or_else(|| (Signature::of(&live, &[]), None));
        let identities = &snapshot.identities;
        let who = snapshot.identities.who(request, session.as_deref());
        let credentials = self.credentials(request, now);
        let several = identities.len() > 1;
        let asked_by = several.then(|| match who {
            Who::Known(identity) => identities.label(identity).to_owned(),
            Who::Unknown => credentials
                .iter()
                .find_map(|presented| presented.identity.clone())
                .unwrap_or_else(|| "somebody whom the recording does not know".to_owned()),
        });
        let instance = origin.and_then(|origin| snapshot.instances.get(origin.instance));
        let owner = instance.map(|instance| instance.identity);
        let answered_for = owner
            .filter(|owner| several && who != Who::Known(*owner))
            .map(|owner| identities.label(owner).to_owned());
        let signature = near_miss::told(&signature, veil);
        Witness { signature, credentials, asked_by, answered_for }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const JWS: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlIG9mIGFsaWNl";

    #[test]
    fn credentials_become_who_they_are() {
        let headers: HeaderMap = [
            ("authorization", format!("Bearer {JWS}")),
            ("x-trace", format!("before-{JWS}-after")),
            ("x-api-key", "k-123456789".to_owned()),
            ("accept", "text/plain".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
        let body = format!("\u{1}\u{2}{JWS}\u{3}");
        let request = Request {
            path: "/a",
            query: "token=opaque-text&page=2",
            headers: &headers,
            body: body.as_bytes(),
            ..Request::default()
        };
        let veiled = veiled(&request, &Veil::default(), 0);
        let header =
            |name: &str| veiled.headers.iter().find(|header| header.0 == name).unwrap().1.as_str();
        assert_eq!(header("authorization"), "Bearer <a JWT, alg HS256, sub alice>");
        assert_eq!(header("x-api-key"), "<an opaque token, key or session id>");
        assert_eq!(header("accept"), "text/plain");
        let text = format!("{veiled:?}");
        for hidden in ["opaque-text", "k-123456789", "eyJ", "c2lnbmF0dXJl"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        assert!(veiled.query.contains("page=2"));
    }
}
