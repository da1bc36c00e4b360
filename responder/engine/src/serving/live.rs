//! Running an answer's chains for a request, and what comes after the chains of any answer.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::{Serving, chaos::spoil};
use crate::{
    answer::Hit,
    body,
    chaos::Spoiling,
    compile::{Known, run_on_response, token_error, validity_now},
    grpc,
    jwt::{KeySource, ResignConfig, TokenSlot},
    transform::{
        Scope, World,
        message::Reply,
        op::{Effects, StepError},
        token_view::{Part, View},
    },
};

/// What a run signs with.
pub(super) struct Run<'s> {
    pub(super) serving: &'s Serving,
    pub(super) known: &'s [Known],
    /// In nanoseconds since the Unix epoch.
    pub(super) now: i64,
    pub(super) second: i64,
    /// What becomes of tokens, if not what should.
    pub(super) spoiling: Option<&'s Spoiling<'s>>,
}

/// Runs the chains of an answer.
pub(super) fn run(run: &Run<'_>, recorded: &Reply, chains: &[usize], scope: Scope) -> (Hit, Scope) {
    let serving = run.serving;
    let mut effects =
        LiveTokens { run, scope, signed: Vec::new(), unsigned: 0, last: Last::Nothing };
    let mut reply = recorded.clone();
    run_on_response(&serving.snapshot.response_chains, chains, &mut reply, &mut effects, |_, _| {});
    let hit = Hit {
        status: reply.response.status,
        delay: reply.delay(serving.snapshot.timing),
        headers: crate::compile::served_headers(&reply.response),
        trailers: crate::compile::served_trailers(&reply.trailers),
        body: reply.response.body,
        resigned: u32::try_from(effects.signed.len()).unwrap_or(u32::MAX),
        unsigned: effects.unsigned,
        origin: None,
        touched: None,
    };
    (hit, effects.scope)
}

/// Finishes an answer: what the request's chains left to be done, then learned replacements.
pub(super) fn finish(world: &World, scope: &Scope, hit: &mut Hit) {
    hit.delay = hit.delay.saturating_add(scope.delay);
    let replaces = !world.replacements.is_empty();
    if scope.finalizers.is_empty() && !replaces {
        return;
    }
    if body::is_gzip(&hit.body) {
        super::unfold(hit);
    }
    let content_type = hit.headers.get(http::header::CONTENT_TYPE);
    let call = content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes()));
    for finalizer in &scope.finalizers {
        edit(&mut hit.body, call, &*finalizer.edit);
    }
    if replaces {
        edit(&mut hit.body, call, &|body| world.replacements.apply(body));
        let trailers = hit.trailers.iter_mut().flat_map(|trailers| trailers.values_mut());
        for value in hit.headers.values_mut().chain(trailers) {
            let new = world.replacements.apply(value.as_bytes());
            if let Some(new) = new.and_then(|new| HeaderValue::from_bytes(&new).ok()) {
                *value = new;
            }
        }
    }
}

/// Edits a body, or the form of a gRPC body.
fn edit(body: &mut Bytes, call: bool, edit: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
    let new = if call { grpc::edited(body, false, edit) } else { edit(body) };
    if let Some(new) = new {
        *body = new.into();
    }
}

/// Tokens of chains that run for a request. Those that the compiler met too are signed once a second, in their slots; others are signed as
/// they come.
struct LiveTokens<'s> {
    run: &'s Run<'s>,
    scope: Scope,
    /// What was made so far.
    signed: Vec<Bytes>,
    unsigned: u32,
    last: Last,
}

/// The token that was re-signed last.
enum Last {
    Nothing,
    Slot(usize),
    Fresh(Box<TokenSlot>),
}

impl LiveTokens<'_> {
    fn known_slot(&self, token: &[u8], config: &Arc<ResignConfig>) -> Option<usize> {
        self.run
            .known
            .iter()
            .find(|known| known.token == token && Arc::ptr_eq(&known.config, config))
            .map(|known| known.slot)
    }

    /// Signs a token that the compiler did not meet.
    fn fresh(
        &self,
        token: &[u8],
        config: &Arc<ResignConfig>,
    ) -> Result<(TokenSlot, Bytes), StepError> {
        let replaced = if self.scope.world.replacements.is_empty() {
            None
        } else {
            View::open(token, Part::Claims).and_then(|claims| {
                let replaced = self.scope.world.replacements.apply(&claims.json)?;
                Some(claims.close(token, &replaced))
            })
        };
        let mut slot =
            TokenSlot::new(replaced.as_deref().unwrap_or(token), config, self.scope.recorded_at)
                .map_err(|why| token_error(&why))?;
        slot.issued_by(&self.run.serving.snapshot.token_world.issuers);
        let key = match slot.secret() {
            KeySource::Inline(key) => Some(key),
            KeySource::Secret(secret) => {
                self.run.serving.keys.get(secret).and_then(|entry| entry.key.as_ref())
            }
        };
        let Run { serving, second, spoiling, .. } = *self.run;
        let key = key.filter(|key| key.can_sign(slot.alg()).is_ok()).ok_or_else(not_signed)?;
        let kid = serving.names_keys().then(|| key.thumbprint()).flatten();
        let mut out = Vec::with_capacity(1024);
        let header = kid.as_deref().and_then(|kid| slot.header_named(kid));
        slot.render_with(second, key, header.as_deref(), &mut out).map_err(|_| not_signed())?;
        let unsound = spoiling.and_then(|spoiling| spoil(&slot, &out, key, second, spoiling));
        Ok((slot, unsound.unwrap_or_else(|| out.into())))
    }
}

fn not_signed() -> StepError {
    StepError::new("not_signed", "the token's key cannot sign")
}

impl Effects for LiveTokens<'_> {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if token.is_empty() {
            return Ok(Vec::new());
        }
        if self.signed.iter().any(|signed| signed == token) {
            return Err(StepError::new("token_resigned_twice", "the token was re-signed already"));
        }
        let slot =
            self.known_slot(token, config).filter(|_| self.scope.world.replacements.is_empty());
        let made = match slot {
            Some(slot) => {
                self.last = Last::Slot(slot);
                let Run { serving, now, spoiling, .. } = *self.run;
                serving.spoilt(slot, now, spoiling).ok_or_else(not_signed)
            }
            None => self.fresh(token, config).map(|(slot, token)| {
                self.last = Last::Fresh(Box::new(slot));
                token
            }),
        };
        match made {
            Ok(token) => {
                self.signed.push(token.clone());
                Ok(token.to_vec())
            }
            Err(why) => {
                self.unsigned += u32::from(why.code == "not_signed");
                Err(why)
            }
        }
    }

    fn resigned(&self) -> usize {
        self.signed.len()
    }

    fn forget(&mut self, resigned: usize) {
        self.signed.truncate(resigned);
    }

    fn validity(&mut self, name: &str, text: &str) -> Option<Vec<u8>> {
        let token = match &self.last {
            Last::Nothing => return None,
            Last::Slot(slot) => self.run.serving.snapshot.slots.get(*slot)?,
            Last::Fresh(slot) => slot,
        };
        validity_now(name, text, token, self.run.second)
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}
