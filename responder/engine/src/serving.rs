//! The main path: a compiled snapshot joined with a node's keys.
//!
//! [`Serving::answer`] is: normalise, request chains, signature, look-up, choose an instance, fill its holes. A token is signed at most
//! once a second: within a second every replica gives the same token out, and a client that asks twice gets it twice.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::{
    answer::{Answer, Hit},
    body,
    compile::{CompiledSnapshot, Fill, Instance, Way, run_on_response, validity_now},
    diagnostic::{Diagnostic, Diagnostics},
    index::Entry,
    jwt::{
        KeySource, ResignConfig, TokenSlot,
        key::{KeyRing, SecretRef, SigningKey},
    },
    near_miss::{self, NearMiss},
    request::{Parts, Request, host_key},
    signature::{Edit, Signature},
    snapshot::HttpResponse,
    transform::op::{Effects, StepError},
};

/// A snapshot that answers.
#[derive(Debug)]
pub struct Serving {
    snapshot: Arc<CompiledSnapshot>,
    tokens: Vec<Token>,
    diagnostics: Vec<Diagnostic>,
    generation: u64,
}

/// A token slot and the key that signs it.
#[derive(Debug)]
struct Token {
    /// `None` while its key is missing or cannot sign it.
    key: Option<Arc<SigningKey>>,
    /// The token as signed in the second named beside it.
    signed: ArcSwapOption<(i64, Bytes)>,
}

const NANOS: i64 = 1_000_000_000;

impl Serving {
    /// Joins a snapshot with keys.
    #[must_use]
    pub fn new(snapshot: Arc<CompiledSnapshot>, keys: &KeyRing) -> Self {
        let mut binder = Binder::new(keys);
        let tokens = snapshot
            .slots
            .iter()
            .map(|slot| Token { key: binder.key_for(slot), signed: ArcSwapOption::empty() })
            .collect();
        let mut diagnostics = snapshot.diagnostics().to_vec();
        diagnostics.extend(binder.finish(snapshot.required_secrets()));
        Self { snapshot, tokens, diagnostics, generation: keys.generation() }
    }

    /// The same snapshot with other keys; who comes next in a sequence stays as it is.
    #[must_use]
    pub fn rebind(&self, keys: &KeyRing) -> Self {
        Self::new(Arc::clone(&self.snapshot), keys)
    }

    /// The snapshot that it serves.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<CompiledSnapshot> {
        &self.snapshot
    }

    /// What was found when the snapshot was compiled and its keys were bound.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The generation of the key ring that it signs with.
    #[must_use]
    pub fn key_generation(&self) -> u64 {
        self.generation
    }

    /// Answers a request. `now` is in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn answer(&self, request: &Request<'_>, now: i64) -> Answer {
        let Some(instance) = self.find(request) else { return Answer::Miss };
        let mut hit = self.current(instance, now.div_euclid(NANOS));
        if instance.folded && !accepts_gzip(request.headers) {
            unfold(&mut hit);
        }
        Answer::Hit(hit)
    }

    /// What was recorded nearest to a request that got no answer. Costs more than an answer: for misses only.
    #[must_use]
    pub fn near_miss(&self, request: &Request<'_>) -> NearMiss {
        let live = Parts::of_live(request);
        let signature =
            self.snapshot.plan.run_on_live(&live, |parts, edits| Some(Signature::of(parts, edits)));
        near_miss::nearest(
            &signature.unwrap_or_else(|| Signature::of(&live, &[])),
            &self.snapshot.index,
        )
    }

    fn find(&self, request: &Request<'_>) -> Option<&Instance> {
        let (plan, index) = (&self.snapshot.plan, &self.snapshot.index);
        let entry = match self.find_as_it_comes(request) {
            Ok(found) => found,
            Err(NeedsParts) => {
                let live = Parts::of_live(request);
                plan.run_on_live(&live, |parts, edits| index.get(&Signature::of(parts, edits)))
            }
        };
        self.snapshot.instances.get(entry?.next()?)
    }

    /// The short way for what most requests are: no chain works on them, and their host was recorded.
    fn find_as_it_comes(&self, request: &Request<'_>) -> Result<Option<&Entry>, NeedsParts> {
        if !self.snapshot.plan.is_empty() {
            return Err(NeedsParts);
        }
        let mut bytes = Vec::with_capacity(256);
        Signature::write_live(request, &mut bytes);
        let index = &self.snapshot.index;
        match index.get_bytes(&bytes) {
            None if !index.knows_host(&host_key(request.host)) => Err(NeedsParts),
            found => Ok(found),
        }
    }

    fn current(&self, instance: &Instance, second: i64) -> Hit {
        let tokens = instance.signed.as_ref().map_or(0, |signed| signed.tokens);
        let fresh = instance.signed.as_ref().and_then(|signed| self.fresh(&signed.way, second));
        let status = instance.status;
        match fresh {
            Some((headers, body)) => Hit { status, headers, body, resigned: tokens, unsigned: 0 },
            None => Hit {
                status,
                headers: instance.headers.clone(),
                body: instance.body.clone(),
                resigned: 0,
                unsigned: tokens,
            },
        }
    }

    /// Header fields and body with current tokens; `None` when one of them cannot be signed.
    fn fresh(&self, way: &Way, second: i64) -> Option<(HeaderMap, Bytes)> {
        let (headers, plain_headers, body) = match way {
            Way::Spliced { headers, plain_headers, body } => (headers, plain_headers, body),
            Way::Dynamic { response, chains, slots } => {
                return self.run_again(response, chains, slots, second);
            }
        };
        let fill = |what: usize, out: &mut Vec<u8>| self.fill(what, second, out);
        let mut all = plain_headers.clone();
        for (name, value) in headers {
            let value = Bytes::from(value.fill(fill)?);
            all.append(name, HeaderValue::from_maybe_shared(value).ok()?);
        }
        Some((all, Bytes::from(body.fill(fill)?)))
    }

    fn fill(&self, what: usize, second: i64, out: &mut Vec<u8>) -> Option<()> {
        match self.snapshot.fills.get(what)? {
            Fill::Token(slot) => out.extend_from_slice(&self.token(*slot, second)?),
            Fill::Moment { slot, text, follows } => {
                out.extend_from_slice(
                    follows.now(text, self.snapshot.slots.get(*slot)?, second)?.as_bytes(),
                );
            }
        }
        Some(())
    }

    /// The token of a slot for this second, signed now unless somebody did already.
    fn token(&self, slot: usize, second: i64) -> Option<Bytes> {
        let token = self.tokens.get(slot)?;
        if let Some(signed) = token.signed.load().as_ref()
            && signed.0 == second
        {
            return Some(signed.1.clone());
        }
        let mut out = Vec::with_capacity(1024);
        self.snapshot.slots.get(slot)?.render(second, token.key.as_deref()?, &mut out).ok()?;
        let bytes = Bytes::from(out);
        token.signed.store(Some(Arc::new((second, bytes.clone()))));
        Some(bytes)
    }

    fn run_again(
        &self,
        response: &HttpResponse,
        chains: &[usize],
        slots: &Range<usize>,
        second: i64,
    ) -> Option<(HeaderMap, Bytes)> {
        let mut effects = LiveTokens {
            serving: self,
            next: slots.start,
            first: slots.start,
            end: slots.end,
            second,
            failed: false,
        };
        let mut response = response.clone();
        run_on_response(
            &self.snapshot.response_chains,
            chains,
            &mut response,
            &mut effects,
            |_, _| {},
        );
        if effects.failed {
            return None;
        }
        let headers = crate::compile::served_headers(&response);
        Some((headers, response.body))
    }
}

/// A request that has to be taken apart to be matched.
struct NeedsParts;

/// Running chains per request: tokens come from the slots that the compiler made, in the same order.
struct LiveTokens<'s> {
    serving: &'s Serving,
    next: usize,
    first: usize,
    end: usize,
    second: i64,
    failed: bool,
}

impl Effects for LiveTokens<'_> {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            return Ok(Vec::new());
        }
        // The compiler made no slot for what is no token to re-sign, so the same test comes first.
        TokenSlot::new(token, config, None).map_err(|why| crate::compile::token_error(&why))?;
        let slot = self.next;
        if slot >= self.end {
            // A later chain met a token of ours. The next slot belongs to another response, perhaps to another user.
            return Err(StepError::new("token_resigned_twice", "the token was re-signed already"));
        }
        self.next += 1;
        self.serving.token(slot, self.second).map(|bytes| bytes.to_vec()).ok_or_else(|| {
            self.failed = true;
            StepError::new("not_signed", "the token's key cannot sign")
        })
    }

    fn resigned(&self) -> usize {
        self.next - self.first
    }

    fn forget(&mut self, resigned: usize) {
        self.next = self.first + resigned;
    }

    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>> {
        let token = self.serving.snapshot.slots.get(self.next.checked_sub(1)?)?;
        validity_now(name, text, token, self.second)
    }

    fn edit_signature(&mut self, _edit: Edit) {}
}

/// Finds the key of each token slot and what is wrong with it, once for each kind of mistake.
struct Binder<'k> {
    keys: &'k KeyRing,
    found: Diagnostics,
    said: BTreeSet<String>,
    unsigned: BTreeMap<String, u64>,
}

impl<'k> Binder<'k> {
    fn new(keys: &'k KeyRing) -> Self {
        Self {
            keys,
            found: Diagnostics::default(),
            said: BTreeSet::new(),
            unsigned: BTreeMap::new(),
        }
    }

    fn key_for(&mut self, slot: &TokenSlot) -> Option<Arc<SigningKey>> {
        let (name, key) = match slot.secret() {
            KeySource::Inline(key) => ("the key in the template".to_owned(), Some(Arc::clone(key))),
            KeySource::Secret(secret) => {
                (secret.to_string(), self.keys.get(secret).and_then(|entry| entry.key.clone()))
            }
        };
        let Some(key) = key else {
            *self.unsigned.entry(name).or_default() += 1;
            return None;
        };
        let alg = slot.alg();
        if let Err(why) = key.can_sign(alg) {
            let message = format!(
                "{name} cannot sign {}: {why}; tokens are served as recorded",
                alg.as_str()
            );
            if self.said.insert(message.clone()) {
                self.found.push(Diagnostic::error(why.code(), "", message).subject(name.clone()));
            }
            *self.unsigned.entry(name).or_default() += 1;
            return None;
        }
        if let Some(weakness) = slot.weakness(&key)
            && self.said.insert(format!("{name} {weakness}"))
        {
            self.found.push(Diagnostic::warning("key_weak", "", weakness).subject(name));
        }
        Some(key)
    }

    fn finish(mut self, required: &[SecretRef]) -> Vec<Diagnostic> {
        for secret in required {
            let name = secret.to_string();
            let tokens = self.unsigned.get(&name).copied().unwrap_or(0);
            match self.keys.get(secret) {
                Some(entry) => {
                    if let Some(problem) = &entry.problem {
                        let kept = if entry.key.is_some() { "; the key before it stays in use" } else { "" };
                        self.found.push(Diagnostic::error(problem.code, "", format!("{}{kept}", problem.message)).subject(name));
                    }
                }
                None => self.found.push(
                    Diagnostic::error(
                        "secret_missing",
                        "",
                        format!("the secret {name} is not mounted; {tokens} recorded tokens are served as recorded"),
                    )
                    .hint(format!("put the signing key into <secret-dir>/{name}"))
                    .subject(name),
                ),
            }
        }
        self.found.into_vec()
    }
}

/// Whether a client takes gzip. A client that says nothing about codings gets none.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|parameter| {
                parameter.replace(' ', "").starts_with("q=0")
                    && !parameter.contains(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
            });
            (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
        })
}

fn unfold(hit: &mut Hit) {
    if let Cow::Owned(plain) = body::unfolded(&hit.body) {
        hit.body = plain.into();
        hit.headers.remove(http::header::CONTENT_ENCODING);
    }
}

#[cfg(test)]
mod tests;
