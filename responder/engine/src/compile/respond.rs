//! Compiling a response: what of it is served as it is, and what its chains make of it.

use std::time::Duration;

use super::{
    CompiledSnapshot, Instance, Keep, Ways, draft, instance::Served, name_of, plan, recorded_reply,
    run_on_response,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    extra, grpc,
    request::Parts,
    snapshot::{RrPair, header},
    transform::{Captured, Nature, Scope, Side, message::Reply},
};

impl CompiledSnapshot {
    /// The instance of a pair, and its findings.
    pub(super) fn prepare(
        &mut self,
        pair: &RrPair,
        parts: &Parts,
        ways: &mut Ways,
        keep: &mut Keep,
        found: &mut Diagnostics,
    ) -> Instance {
        let chains = &self.response_chains;
        let admitted: Vec<usize> = (0..chains.len())
            .filter(|nth| chains.get(*nth).is_some_and(|chain| chain.filters.admits(pair, parts)))
            .collect();
        if admitted.is_empty() && !self.learns && is_plain(pair) {
            ways.count(&admitted, 0, None);
            let trailers = extra::trailers(pair, "res");
            let delay = self.timing.of(Duration::from_nanos(pair.duration));
            let response = Served { of: &pair.response, trailers: &trailers, delay };
            return response.instance(pair, keep, found);
        }
        let mut reply = recorded_reply(pair, !admitted.is_empty() || self.learns);
        reply.listed = self.methods.get(&parts.path).is_some_and(|method| method.responses > 1);
        let scope = || Scope::recorded(&self.world, Side::Response, pair.ts);
        let captured = self.captures(&admitted, &reply, scope());
        // What depends on nothing but the recording is done here and now, up to the first chain that does.
        let fixed = |nth: &usize| chains.get(*nth).is_none_or(|c| c.nature() == Nature::Static);
        let (first, rest) = admitted
            .split_at(admitted.iter().position(|nth| !fixed(nth)).unwrap_or(admitted.len()));
        let mut effects = plan::Untouched { scope: scope() };
        run_on_response(chains, first, &mut reply, &mut effects, |chain, why| {
            found.push(
                Diagnostic::info(
                    why.code,
                    chain.path.clone(),
                    format!("the chain is skipped: {why}"),
                )
                .subject(name_of(pair)),
            );
        });
        let known_now: Vec<usize> = rest
            .iter()
            .copied()
            .filter(|nth| chains.get(*nth).is_some_and(|c| c.nature() != Nature::PerRequest))
            .collect();
        let unsigned = (!known_now.is_empty())
            .then(|| draft::without_tokens(chains, &known_now, &reply, scope()));
        let living_scope = scope();
        let living = if rest.is_empty() {
            None
        } else {
            draft::Draft::run(self, pair, rest, &reply, living_scope, found)
        };
        ways.count(&admitted, first.len(), living.as_ref());
        let unsigned = unsigned.unwrap_or(reply);
        let delay = unsigned.delay(self.timing);
        let response = Served { of: &unsigned.response, trailers: &unsigned.trailers, delay };
        let instance = response.instance(pair, keep, found);
        Instance {
            captured: captured.into(),
            living: living.map(|living| Box::new(living.kept(keep))),
            ..instance
        }
    }

    /// What chains that learn from the difference between recording and answer see in the recording.
    fn captures(&self, admitted: &[usize], reply: &Reply, scope: Scope) -> Vec<Captured> {
        if !self.learns {
            return Vec::new();
        }
        let mut effects = plan::Untouched { scope };
        for nth in admitted {
            // Each chain looks at the recording as it was, not at what others have made of it.
            run_on_response(
                &self.response_chains,
                &[*nth],
                &mut reply.clone(),
                &mut effects,
                |_, _| {},
            );
        }
        effects.scope.captured
    }
}

/// Whether a pair's response is served as it was recorded where no chain works on it.
fn is_plain(pair: &RrPair) -> bool {
    header(&pair.response.headers, "content-encoding").is_none() && !grpc::is_call(pair)
}
