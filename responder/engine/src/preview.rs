//! Previews: what a template does to one recorded pair, chain by chain and step by step.
//!
//! The chains are those that serve; only the steps are wrapped, to write down what each is given and what it gives back. Nothing is
//! signed, because keys are on the nodes: a re-signed token shows its new header and claims. JWS signatures are not told.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::{
    compile::{recorded_reply, token_error, validity_now},
    dlp::token,
    json,
    jwt::{ResignConfig, TokenSlot},
    request::Parts,
    signature::Signature,
    snapshot::{Header, RrPair},
    transform::{
        Chain, Nature, Scope, Side, Template,
        message::{Message, Reply},
        op::{Effects, Op, StepError, Transform},
    },
};

/// What a template does to a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Each of the responder's chains, in order.
    pub chains: Vec<ChainPreview>,
    /// The pair as it was recorded, as far as it may be told.
    pub before: RrPair,
    /// The pair afterwards.
    pub after: RrPair,
    /// The signature that the recorded request is matched by, afterwards.
    pub signature: Vec<(String, Bytes)>,
}

/// What a chain does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPreview {
    /// Its path in the template.
    pub path: String,
    /// Whether it works on the request.
    pub on_request: bool,
    /// Whether its filters admit the pair.
    pub admitted: bool,
    /// What it costs when it serves: `compiled`, `slots` or `per_request`.
    pub nature: &'static str,
    /// Why it changed nothing, when it failed: a code and a sentence.
    pub failure: Option<(&'static str, String)>,
    /// Its steps as they ran.
    pub steps: Vec<StepPreview>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPreview {
    /// Its path in the template.
    pub path: String,
    /// Its kind.
    pub kind: String,
    /// What it was given.
    pub given: Bytes,
    /// What it gave back when the chain came back to it; absent when it failed.
    pub returned: Option<Bytes>,
}

/// Values are told up to this length.
const MAX_VALUE: usize = 64 * 1024;
/// At most so many steps of a chain are told: a path with `#` runs the rest of its chain many times.
const MAX_STEPS: usize = 1000;
/// Stands for a signature that a node will make.
const TO_BE_SIGNED: &str = "to-be-signed-by-a-responder";
/// Stands for a recorded signature.
const NOT_TOLD: &str = "signature-not-told";

/// Runs a template on a pair. `now` is in nanoseconds since the epoch.
#[must_use]
pub fn preview(template: &Template, pair: &RrPair, now: i64) -> Preview {
    let world = template.world(None);
    let mut after = pair.clone();
    let mut chains = Vec::new();
    let recorded = Parts::of_recorded(pair);
    let mut parts = recorded.clone();
    let mut effects = Unsigned::new(Scope::live(&world, Side::Request, now), pair.ts);
    let mut reply = recorded_reply(pair, true);
    for side in [Side::Request, Side::Response] {
        effects.scope.side = side;
        for chain in template.chains().iter().filter(|chain| chain.side() == side) {
            let admitted = chain.filters.admits(pair, &recorded);
            let mut message = match side {
                Side::Request => Message::Request(&mut parts),
                Side::Response => Message::Response(&mut reply),
            };
            chains.push(run(chain, admitted, &mut message, &mut effects));
        }
    }
    let signature = Signature::of(&parts, &effects.scope.edits);
    let signature = signature.entries().map(|(key, value)| (key.to_owned(), told(value))).collect();
    write_back(&mut after, parts, reply);
    let mut before = pair.clone();
    for pair in [&mut before, &mut after] {
        mask(pair);
    }
    Preview { chains, before, after, signature }
}

fn run(
    chain: &Chain,
    admitted: bool,
    message: &mut Message<'_>,
    effects: &mut Unsigned,
) -> ChainPreview {
    let log = Arc::new(Mutex::new(Vec::new()));
    let traced = |(nth, op): (usize, &Op)| -> Op {
        Arc::new(Traced { nth, op: Arc::clone(op), log: Arc::clone(&log) })
    };
    let watched =
        Chain { ops: chain.ops.iter().enumerate().map(traced).collect(), ..chain.clone() };
    let failure = if admitted {
        let outcome = watched.run(message, effects);
        outcome.err().map(|why| (why.code, why.to_string()))
    } else {
        None
    };
    drop(watched);
    let entries = std::mem::take(&mut *log.lock().unwrap_or_else(PoisonError::into_inner));
    ChainPreview {
        path: chain.path.clone(),
        on_request: chain.side() == Side::Request,
        admitted,
        nature: match chain.nature() {
            Nature::Static => "compiled",
            Nature::Token => "slots",
            Nature::PerRequest => "per_request",
        },
        failure,
        steps: entries
            .into_iter()
            .map(|entry| StepPreview {
                path: format!("{}.transforms[{}]", chain.path, entry.nth),
                kind: chain.kinds.get(entry.nth).cloned().unwrap_or_default(),
                given: told(&entry.given),
                returned: entry.returned.as_deref().map(told),
            })
            .collect(),
    }
}

/// The pair as its chains have left it.
fn write_back(pair: &mut RrPair, parts: Parts, reply: Reply) {
    if let Some(request) = &mut pair.request {
        let query: Vec<String> = parts
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        request.method = parts.method;
        request.path = parts.path;
        request.host = parts.host;
        request.query = query.join("&");
        request.body = parts.body;
        request.headers =
            parts.headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    }
    if let Some(latency) = reply.latency {
        pair.duration = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    }
    pair.response = reply.response;
}

/// Takes JWS signatures out of a pair, and what else it holds of them.
fn mask(pair: &mut RrPair) {
    if let Some(request) = &mut pair.request {
        request.body = told(&request.body);
        request.query = String::from_utf8_lossy(&told(request.query.as_bytes())).into_owned();
        for header in &mut request.headers {
            header.value = told(&header.value);
        }
    }
    pair.response.body = told(&pair.response.body);
    for header in &mut pair.response.headers {
        header.value = told(&header.value);
    }
    for value in pair.signature.values_mut() {
        *value = told(value);
    }
    pair.extra_json = String::new();
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A value as it may be told: JWS signatures are left out, and a long value is cut.
fn told(value: &[u8]) -> Bytes {
    let short = value.get(..MAX_VALUE).unwrap_or(value);
    let signatures = token::find(short).into_iter().map(|span| token::signature(short, &span));
    let hidden: Vec<_> = signatures
        .filter(|span| short.get(span.clone()) != Some(TO_BE_SIGNED.as_bytes()))
        .map(|span| (span, NOT_TOLD.as_bytes().to_vec()))
        .collect();
    json::replace(short, &hidden).into()
}

/// A step that writes down what it is given and what it gives back.
#[derive(Debug)]
struct Traced {
    nth: usize,
    op: Op,
    log: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    nth: usize,
    given: Vec<u8>,
    returned: Option<Vec<u8>>,
}

impl Traced {
    fn log(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transform for Traced {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let at = {
            let mut log = self.log();
            if log.len() < MAX_STEPS {
                log.push(Entry { nth: self.nth, given: value.to_vec(), returned: None });
            }
            log.len() - 1
        };
        let made = self.op.apply(value, rest, effects)?;
        if let Some(entry) = self.log().get_mut(at).filter(|entry| entry.nth == self.nth) {
            entry.returned = Some(made.clone());
        }
        Ok(made)
    }

    fn nature(&self) -> Nature {
        self.op.nature()
    }
}

/// Tokens get their new header and claims, and no signature.
struct Unsigned {
    scope: Scope,
    recorded_at: Option<i64>,
    made: Vec<TokenSlot>,
}

impl Unsigned {
    fn new(mut scope: Scope, recorded_at: Option<i64>) -> Self {
        scope.recorded_at = recorded_at;
        Self { scope, recorded_at, made: Vec::new() }
    }

    fn second(&self) -> i64 {
        self.scope.now.unwrap_or_default().div_euclid(1_000_000_000)
    }
}

impl Effects for Unsigned {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() || self.scope.side == Side::Request {
            return Ok(token.to_vec());
        }
        let slot =
            TokenSlot::new(token, config, self.recorded_at).map_err(|why| token_error(&why))?;
        let made = slot.render_unsigned(self.second(), TO_BE_SIGNED);
        self.made.push(slot);
        Ok(made)
    }

    fn resigned(&self) -> usize {
        self.made.len()
    }

    fn forget(&mut self, resigned: usize) {
        self.made.truncate(resigned);
    }

    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>> {
        validity_now(name, text, self.made.last()?, self.second())
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{HttpRequest, HttpResponse};

    // {"alg":"HS256"} . {"sub":"a","iat":1700000000,"exp":1700000060} . a signature
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDAwNjB9.c2VjcmV0";

    fn pair() -> RrPair {
        RrPair {
            request: Some(HttpRequest {
                method: "POST".into(),
                path: "/login".into(),
                host: "api".into(),
                headers: vec![Header {
                    name: "Content-Type".into(),
                    value: "application/json".into(),
                }],
                body: r#"{"user":"a","nonce":"1"}"#.into(),
                ..HttpRequest::default()
            }),
            response: HttpResponse {
                status: 200,
                body: format!(r#"{{"access_token":"{TOKEN}","expires_in":60}}"#).into(),
                ..HttpResponse::default()
            },
            ..RrPair::default()
        }
    }

    fn seen(template: &str) -> Preview {
        let (template, found) = Template::parse(template.as_bytes());
        assert!(!found.has_errors(), "{found:?}");
        preview(&template, &pair(), 1_800_000_000_000_000_000)
    }

    #[test]
    fn shows_each_step_and_no_signature() {
        let preview = seen(
            r#"{"id":"t","responder":[
            {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"access_token"}},{"type":"jwt_resign","config":{"secretPath":"a/b","expiresIn":"120"}}]},
            {"extractor":{"type":"req_body"},"transforms":[{"type":"json_path","config":{"path":"nonce"}},{"type":"constant","config":{"new":"*"}}]},
            {"filters":{"filters":[{"include":true,"detectedLocation":"/other"}]},"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"x"}}]},
            {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"none","create":"false"}}]}
        ]}"#,
        );
        let shape: Vec<_> = preview
            .chains
            .iter()
            .map(|chain| {
                let kinds: Vec<_> = chain.steps.iter().map(|step| step.kind.as_str()).collect();
                (
                    chain.path.as_str(),
                    chain.admitted,
                    chain.nature,
                    chain.failure.as_ref().map(|why| why.0),
                    kinds,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("responder[1]", true, "compiled", None, vec!["json_path", "constant"]),
                ("responder[0]", true, "slots", None, vec!["json_path", "jwt_resign"]),
                ("responder[2]", false, "compiled", None, vec![]),
                ("responder[3]", true, "compiled", Some("path_not_found"), vec!["json_path"]),
            ]
        );
        let resign = &preview.chains[1].steps[1];
        assert!(resign.given.ends_with(b".signature-not-told"));
        assert!(resign.returned.as_ref().unwrap().ends_with(TO_BE_SIGNED.as_bytes()));
        let all = format!("{preview:?}");
        assert!(!all.contains("c2VjcmV0"), "{all}");
        let body = String::from_utf8_lossy(&preview.after.response.body).into_owned();
        assert!(body.ends_with(r#""expires_in":120}"#), "{body}");
        assert_eq!(preview.after.request.unwrap().body, r#"{"user":"a","nonce":"*"}"#);
        let signed =
            preview.signature.iter().find(|(key, _)| key == "http:requestBodyJSON").unwrap();
        assert_eq!(signed.1, r#"{"nonce":"*","user":"a"}"#);
    }
}
