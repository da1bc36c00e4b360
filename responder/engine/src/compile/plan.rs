//! Request chains: run alike on recorded requests, when a snapshot is compiled, and on live ones.
//!
//! Some filters ask what only a recorded pair knows. So the compiler keeps each *combination* of chains that ran on some recorded pair;
//! a live request tries those that do not contradict what it knows of itself. Mostly there is exactly one.

use std::sync::Arc;

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    dlp::Treatment,
    jwt::ResignConfig,
    request::{Parts, Request},
    snapshot::RrPair,
    transform::{
        Chain, Scope, Side, World,
        filter::Verdict,
        message::{Message, Reply},
        op::{Effects, StepError},
    },
};

/// The request chains and the combinations in which they ran.
#[derive(Debug)]
pub(crate) struct Plan {
    chains: Vec<Chain>,
    combinations: Vec<Vec<usize>>,
    treatment: Treatment,
}

impl Plan {
    pub(super) fn new(chains: Vec<Chain>, treatment: Treatment) -> Self {
        Self { chains, combinations: Vec::new(), treatment }
    }

    /// Whether no chain works on requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Whether this request is matched as it comes.
    pub(crate) fn leaves(&self, request: &Request<'_>) -> bool {
        self.chains.is_empty() && !self.treatment.may_change(request)
    }

    /// Whether recorded requests are indexed as they are.
    pub(super) fn leaves_recorded(&self) -> bool {
        self.chains.is_empty() && self.treatment.is_empty()
    }

    /// The chains, in the template's order.
    pub(crate) fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// Runs the chains that admit a recorded pair.
    pub(super) fn run_on_recorded(
        &mut self,
        pair: &RrPair,
        parts: &mut Parts,
        world: &Arc<World>,
        found: &mut Diagnostics,
    ) -> Scope {
        self.treatment.apply_to_recorded(parts);
        let combination: Vec<usize> = self
            .chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.filters.admits(pair, parts))
            .map(|(nth, _)| nth)
            .collect();
        let scope = Scope::recorded(world, Side::Request, pair.ts);
        let scope = self.run(&combination, parts, scope, |chain, why| {
            found.push(
                Diagnostic::info(
                    why.code,
                    chain.path.clone(),
                    format!("the chain is skipped: {why}"),
                )
                .subject(super::name_of(pair)),
            );
        });
        if !self.combinations.contains(&combination) {
            self.combinations.push(combination);
        }
        scope
    }

    /// Runs each combination of chains that fits a live request and hands the outcomes on until one is taken. Each begins where `first`
    /// does.
    pub(crate) fn run_on_live<T>(
        &self,
        live: &Parts,
        first: Scope,
        mut take: impl FnMut(&Parts, &Scope) -> Option<T>,
    ) -> Option<(T, Scope)> {
        let treated = (!self.treatment.is_empty()).then(|| {
            let mut treated = live.clone();
            self.treatment.apply(&mut treated);
            treated
        });
        let live = treated.as_ref().unwrap_or(live);
        if self.chains.is_empty() {
            return take(live, &first).map(|taken| (taken, first));
        }
        let verdicts: Vec<Verdict> =
            self.chains.iter().map(|chain| chain.filters.admits_live(live)).collect();
        let fits = |combination: &[usize]| {
            verdicts.iter().enumerate().all(|(nth, verdict)| match verdict {
                Verdict::Yes => combination.contains(&nth),
                Verdict::No => !combination.contains(&nth),
                Verdict::Unknown => true,
            })
        };
        self.combinations.iter().filter(|combination| fits(combination)).find_map(|combination| {
            let mut parts = live.clone();
            let scope = first.again();
            let scope = self.run(combination, &mut parts, scope, |_, _| {});
            take(&parts, &scope).map(|taken| (taken, scope))
        })
    }

    fn run(
        &self,
        combination: &[usize],
        parts: &mut Parts,
        scope: Scope,
        mut failed: impl FnMut(&Chain, &StepError),
    ) -> Scope {
        let mut effects = Untouched { scope };
        for nth in combination {
            let Some(chain) = self.chains.get(*nth) else { continue };
            effects.scope.chain = *nth;
            match chain.run(&mut Message::Request(parts), &mut effects) {
                Ok(()) => effects.scope.ran.push(*nth),
                Err(why) => failed(chain, &why),
            }
        }
        effects.scope
    }
}

/// Tokens stay as they are: on requests, whose tokens a client presents, and where chains only look.
pub(super) struct Untouched {
    pub(super) scope: Scope,
}

impl Effects for Untouched {
    fn resign(&mut self, token: &[u8], _config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        Ok(token.to_vec())
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}

/// Runs response chains; a chain that fails is skipped and changes nothing.
pub(crate) fn run_on_response(
    chains: &[Chain],
    admitted: &[usize],
    reply: &mut Reply,
    effects: &mut dyn Effects,
    mut failed: impl FnMut(&Chain, &StepError),
) {
    for nth in admitted {
        let Some(chain) = chains.get(*nth) else { continue };
        effects.scope().chain = *nth;
        if let Err(why) = chain.run(&mut Message::Response(reply), effects) {
            failed(chain, &why);
        }
    }
}
