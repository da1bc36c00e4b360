//! Recorded requests on their way to a service: who asks, what is sent, and what a template's generator chains make of it.
//!
//! A load generator knows neither chains nor identities; it asks here. Which pairs a chain admits is settled with the recording, so that a
//! live request costs its chains and nothing else.

use std::{collections::HashSet, fmt, sync::Arc};

use bytes::Bytes;
use dashmap::DashMap;
use http::HeaderMap;

use crate::{
    compile::token_error,
    extra, grpc,
    identity::{self, Credential},
    jwt::{
        KeySource, ResignConfig, TokenSlot,
        key::{KeyRing, SigningKey},
    },
    lineage::Endpoint,
    request::{Parts, Request},
    snapshot::{Header, HttpRequest, RrPair, Serve, encoded::Pairs},
    transform::{
        Scope, Side, Template, World,
        message::Message,
        op::{Effects, StepError},
    },
};

/// A second, in nanoseconds.
const NANOS: i64 = 1_000_000_000;
/// So many signed tokens are kept.
const MAX_SIGNED: usize = 100_000;

/// Who is behind a recorded pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker(Option<u32>);

impl Asker {
    /// The number of the identity; `None` when the pair shows nobody's credential and issues none.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        self.0
    }
}

/// Pairs in recorded order, and who is behind each.
#[derive(Debug)]
pub struct Asked {
    /// The pairs.
    pub pairs: Vec<RrPair>,
    /// Who is behind each of them: whose credential the request presents, or else whose token the response issues.
    pub askers: Vec<Asker>,
    /// What may be told of the identities, by number.
    pub labels: Vec<String>,
}

/// Finds out who is behind each pair. `claims` are the claims that tell users apart, where a test config names them.
#[must_use]
pub fn survey(mut pairs: Vec<RrPair>, claims: Option<&[String]>) -> Asked {
    pairs.sort_by_key(|pair| pair.ordinal);
    let pairs = Pairs::of(pairs, Serve::All);
    let (identities, seen) = identity::survey(&pairs, claims, &HashSet::new(), |_| {});
    let number = |id: identity::IdentityId| {
        (id != identity::IdentityId::NOBODY).then(|| u32::try_from(id.index()).ok()).flatten()
    };
    let askers = seen
        .iter()
        .map(|seen| Asker(number(seen.identity).or_else(|| seen.issued.and_then(number))))
        .collect();
    let labels = (0..identities.len())
        .filter_map(identity::IdentityId::at)
        .map(|id| identities.label(id).to_owned())
        .collect();
    Asked { pairs: pairs.into_read(), askers, labels }
}

/// The endpoint that a pair went to.
#[must_use]
pub fn endpoint(pair: &RrPair) -> Endpoint {
    Endpoint::of(pair, &Parts::of_recorded(pair)).0
}

/// Whether a pair is a call of gRPC.
#[must_use]
pub fn is_call(pair: &RrPair) -> bool {
    grpc::is_call(pair)
}

/// The body of a recorded request as it is sent: of a call of gRPC its frames, whatever form the recorder has kept.
#[must_use]
pub fn body(pair: &RrPair) -> Bytes {
    let recorded = pair.request.as_ref().map(|request| request.body.clone()).unwrap_or_default();
    if grpc::is_call(pair) { grpc::normal(&recorded).unwrap_or(recorded) } else { recorded }
}

/// The body of a recorded response as a client receives it.
#[must_use]
pub fn answer(pair: &RrPair) -> Bytes {
    let recorded = pair.response.body.clone();
    if grpc::is_call(pair) { grpc::normal(&recorded).unwrap_or(recorded) } else { recorded }
}

/// The recorded fields behind a response's body.
#[must_use]
pub fn trailers(pair: &RrPair) -> Vec<Header> {
    extra::trailers(pair, "res")
}

/// Whether a recorded request presents a token, which a service may refuse. Keys, names and passwords are none.
#[must_use]
pub fn presents_token(pair: &RrPair) -> bool {
    let Some(recorded) = &pair.request else { return false };
    let headers = fields(recorded);
    let found = identity::presented(&Request::recorded(recorded, &headers));
    found.iter().any(|(_, credential)| matches!(credential, Credential::Jwt(_)))
}

/// The spans of a text that look like JWTs.
#[must_use]
pub fn tokens_in(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    if identity::may_hold_token(text) { identity::token_runs(text) } else { Vec::new() }
}

/// The claims of a token, JSON; `None` when it is none.
#[must_use]
pub fn claims(token: &[u8]) -> Option<Vec<u8>> {
    identity::claims_of(token)
}

fn fields(recorded: &HttpRequest) -> HeaderMap {
    let field = |header: &Header| {
        let name = http::HeaderName::try_from(header.name.as_str()).ok()?;
        Some((name, http::HeaderValue::from_bytes(&header.value).ok()?))
    };
    recorded.headers.iter().filter_map(field).collect()
}

/// The chains of a template that admit a recorded request, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admitted(Box<[u16]>);

impl Admitted {
    /// Whether no chain does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What generator chains have made of a request. What is absent stays as it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The path.
    pub path: Option<String>,
    /// The query without `?`.
    pub query: Option<String>,
    /// All header fields.
    pub headers: Option<Vec<(String, Bytes)>>,
    /// The body.
    pub body: Option<Bytes>,
    /// How many tokens were signed.
    pub signed: usize,
    /// Chains that failed and changed nothing: a code and a sentence.
    pub failed: Vec<(&'static str, String)>,
}

/// Runs the generator chains of a template.
pub struct Generator {
    template: Template,
    world: Arc<World>,
    keys: Arc<KeyRing>,
    signed: DashMap<(Bytes, usize), (i64, Bytes)>,
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("template", &self.template.id()).finish_non_exhaustive()
    }
}

impl Generator {
    /// The chains of a template, with the keys that they sign with.
    #[must_use]
    pub fn new(template: Template, keys: Arc<KeyRing>) -> Self {
        let world = template.world(None);
        Self { template, world, keys, signed: DashMap::new() }
    }

    /// How many chains work on requests.
    #[must_use]
    pub fn chains(&self) -> usize {
        self.template.sent().len()
    }

    /// The chains that admit a recorded request.
    #[must_use]
    pub fn admits(&self, pair: &RrPair) -> Admitted {
        let parts = Parts::of_recorded(pair);
        let chains = self.template.sent().iter().enumerate();
        let admitted = chains.filter(|(_, chain)| chain.filters.admits(pair, &parts));
        Admitted(admitted.filter_map(|(nth, _)| u16::try_from(nth).ok()).collect())
    }

    /// Runs chains on a request that is about to be sent. `now` is in nanoseconds since the epoch, `recorded_at` is when it was recorded.
    #[must_use]
    pub fn run(
        &self,
        chains: &Admitted,
        request: &Request<'_>,
        recorded_at: Option<i64>,
        now: i64,
    ) -> Changed {
        let before = Parts::of_live(request);
        let mut parts = before.clone();
        let mut effects = Signing {
            scope: Scope::live(&self.world, Side::Request, now),
            generator: self,
            made: Vec::new(),
        };
        effects.scope.recorded_at = recorded_at;
        effects.scope.secrets = Some(Arc::clone(&self.keys));
        let mut changed = Changed::default();
        for nth in &chains.0 {
            let Some(chain) = self.template.sent().get(usize::from(*nth)) else { continue };
            effects.scope.chain = usize::from(*nth);
            if let Err(why) = chain.run(&mut Message::Request(&mut parts), &mut effects) {
                changed.failed.push((why.code, format!("{}: {why}", chain.path)));
            }
        }
        effects.scope.commit();
        changed.signed = effects.made.len();
        changed.path = (parts.path != before.path).then_some(parts.path);
        changed.query = (parts.query != before.query).then(|| written(&parts.query));
        changed.headers = (parts.headers != before.headers).then_some(parts.headers);
        changed.body = (parts.body != before.body).then_some(parts.body);
        changed
    }
}

/// A query as it is sent.
fn written(query: &[(String, String)]) -> String {
    let escaped = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let fields = query.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// Tokens are signed anew, once a second each.
struct Signing<'g> {
    scope: Scope,
    generator: &'g Generator,
    made: Vec<Bytes>,
}

impl Effects for Signing<'_> {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            return Ok(Vec::new());
        }
        let second = self.scope.now.unwrap_or_default().div_euclid(NANOS);
        let signed = &self.generator.signed;
        let name = (Bytes::copy_from_slice(token), Arc::as_ptr(config).addr());
        if let Some(known) = signed.get(&name).filter(|known| known.0 == second) {
            self.made.push(known.1.clone());
            return Ok(known.1.to_vec());
        }
        let slot = TokenSlot::new(token, config, self.scope.recorded_at)
            .map_err(|why| token_error(&why))?;
        let not_signed = || StepError::new("not_signed", "the token's key cannot sign");
        let key: Option<&Arc<SigningKey>> = match slot.secret() {
            KeySource::Inline(key) => Some(key),
            KeySource::Secret(secret) => {
                self.generator.keys.get(secret).and_then(|entry| entry.key.as_ref())
            }
        };
        let key = key.filter(|key| key.can_sign(slot.alg()).is_ok()).ok_or_else(not_signed)?;
        let mut out = Vec::with_capacity(1024);
        slot.render(second, key, &mut out).map_err(|_| not_signed())?;
        let made = Bytes::from(out);
        if signed.len() < MAX_SIGNED || signed.contains_key(&name) {
            signed.insert(name, (second, made.clone()));
        }
        self.made.push(made.clone());
        Ok(made.to_vec())
    }

    fn resigned(&self) -> usize {
        self.made.len()
    }

    fn forget(&mut self, resigned: usize) {
        self.made.truncate(resigned);
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

#[cfg(test)]
mod tests;
