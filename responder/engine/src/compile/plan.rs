//! Request chains: run alike on recorded requests, when a snapshot is compiled, and on live ones.
//!
//! Some filters ask what only a recorded pair knows. So the compiler keeps each *combination* of chains that ran on some recorded pair;
//! a live request tries those that do not contradict what it knows of itself. Mostly there is exactly one.

use std::sync::Arc;

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::ResignConfig,
    request::Parts,
    signature::Edit,
    snapshot::{HttpResponse, RrPair},
    transform::{
        Chain,
        filter::Verdict,
        op::{Effects, StepError, apply},
    },
};

/// The request chains and the combinations in which they ran.
#[derive(Debug)]
pub(crate) struct Plan {
    chains: Vec<Chain>,
    combinations: Vec<Vec<usize>>,
}

impl Plan {
    pub(super) fn new(chains: Vec<Chain>) -> Self {
        Self { chains, combinations: Vec::new() }
    }

    /// Whether requests are matched as they come.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Runs the chains that admit a recorded pair.
    pub(super) fn run_on_recorded(
        &mut self,
        pair: &RrPair,
        parts: &mut Parts,
        found: &mut Diagnostics,
    ) -> Vec<Edit> {
        let combination: Vec<usize> = self
            .chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.filters.admits(pair, parts))
            .map(|(nth, _)| nth)
            .collect();
        let edits = self.run(&combination, parts, |chain, why| {
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
        edits
    }

    /// Runs each combination of chains that fits a live request and hands the outcomes on until one is taken.
    pub(crate) fn run_on_live<T>(
        &self,
        live: &Parts,
        mut take: impl FnMut(&Parts, &[Edit]) -> Option<T>,
    ) -> Option<T> {
        if self.chains.is_empty() {
            return take(live, &[]);
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
            let edits = self.run(combination, &mut parts, |_, _| {});
            take(&parts, &edits)
        })
    }

    fn run(
        &self,
        combination: &[usize],
        parts: &mut Parts,
        mut failed: impl FnMut(&Chain, &StepError),
    ) -> Vec<Edit> {
        let mut effects = RequestEffects::default();
        for chain in combination.iter().filter_map(|nth| self.chains.get(*nth)) {
            let Some(value) = chain.extractor.read_request(parts) else {
                failed(
                    chain,
                    &StepError::new("parameter_not_found", "what the extractor names is not there"),
                );
                continue;
            };
            let kept = effects.edits.len();
            match apply(&chain.ops, &value, &mut effects) {
                Ok(new) if new != value => chain.extractor.write_request(parts, new),
                Ok(_) => {}
                Err(why) => {
                    effects.edits.truncate(kept);
                    failed(chain, &why);
                }
            }
        }
        effects.edits
    }
}

/// On the request side chains edit signatures and re-sign nothing.
#[derive(Debug, Default)]
struct RequestEffects {
    edits: Vec<Edit>,
}

impl Effects for RequestEffects {
    fn resign(&mut self, token: &[u8], _config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        Ok(token.to_vec())
    }

    fn resigned(&self) -> usize {
        0
    }

    fn forget(&mut self, _resigned: usize) {}

    fn validity(&mut self, _name: &str, _text: &str) -> Option<Vec<u8>> {
        None
    }

    fn edit_signature(&mut self, edit: Edit) {
        self.edits.push(edit);
    }
}

/// Runs response chains; a chain that fails is skipped and changes nothing.
pub(crate) fn run_on_response(
    chains: &[Chain],
    admitted: &[usize],
    response: &mut HttpResponse,
    effects: &mut dyn Effects,
    mut failed: impl FnMut(&Chain, &StepError),
) {
    for chain in admitted.iter().filter_map(|nth| chains.get(*nth)) {
        let Some(value) = chain.extractor.read_response(response) else { continue };
        let resigned = effects.resigned();
        match apply(&chain.ops, &value, effects) {
            Ok(new) if new != value => chain.extractor.write_response(response, new),
            Ok(_) => {}
            Err(why) => {
                effects.forget(resigned);
                failed(chain, &why);
            }
        }
    }
}
