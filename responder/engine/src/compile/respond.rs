//! Compiling a response: what of it is served as it is, and what its chains make of it.

use std::time::Duration;

use super::{
    CompiledSnapshot, Instance, Keep, Ways, draft, instance::Served, name_of, plan, recorded_reply,
    run_on_response,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    extra, grpc,
    snapshot::{Header, HttpResponse, RrPair, header},
    transform::{Captured, Nature, Scope, Side, filter, message::Reply},
};

impl CompiledSnapshot {
    /// The instance of a pair, and its findings.
    pub(super) fn prepare(
        &mut self,
        recorded: &filter::Recorded<'_>,
        ways: &mut Ways,
        keep: &mut Keep,
        found: &mut Diagnostics,
    ) -> Instance {
        let (pair, chains) = (recorded.pair, &self.response_chains);
        let admitted: Vec<usize> = (0..chains.len())
            .filter(|nth| chains.get(*nth).is_some_and(|chain| chain.filters.selects(recorded)))
            .collect();
        if admitted.is_empty() && !self.learns && is_plain(pair) {
            ways.count(&admitted, 0, None);
            let delay = self.timing.of(Duration::from_nanos(pair.duration));
            return served(pair, &pair.response, &extra::trailers(pair, "res"), delay, keep, found);
        }
        let mut reply = recorded_reply(pair, !admitted.is_empty() || self.learns);
        let method = (!self.methods.is_empty()).then(|| self.methods.get(&recorded.parts().path));
        reply.listed = method.flatten().is_some_and(|method| method.responses > 1);
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
        let mut instance = served(pair, &unsigned.response, &unsigned.trailers, delay, keep, found);
        if !captured.is_empty() {
            instance.rare_mut().captured = captured;
        }
        instance.living = living.map(|living| Box::new(living.kept(&instance.body, keep)));
        instance
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

/// An instance of what becomes of a pair's response when nothing is made anew.
fn served(
    pair: &RrPair,
    of: &HttpResponse,
    trailers: &[Header],
    delay: Duration,
    keep: &mut Keep,
    found: &mut Diagnostics,
) -> Instance {
    let subject = || name_of(pair);
    let headers = keep.headers(&of.headers, &subject, found);
    let trailers = keep.trailers(trailers, &subject, found);
    Served { of, trailers, delay }.instance(pair, headers, keep)
}

/// Whether a pair's response is served as it was recorded where no chain works on it.
pub(super) fn is_plain(pair: &RrPair) -> bool {
    header(&pair.response.headers, "content-encoding").is_none() && !grpc::is_call(pair)
}
