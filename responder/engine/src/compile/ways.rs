//! How each chain was compiled, for the findings: into bytes, into holes for tokens, or to be run per request.

use super::{CompiledSnapshot, Living, Way};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// How each chain was compiled, counted by responses.
pub(super) struct Ways {
    response: Vec<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    fixed: u64,
    holes: u64,
    per_request: u64,
}

impl Ways {
    pub(super) fn new(compiled: &CompiledSnapshot) -> Self {
        Self { response: vec![Counts::default(); compiled.response_chains.len()] }
    }

    pub(super) fn count(&mut self, admitted: &[usize], fixed: usize, living: Option<&Living>) {
        for (at, nth) in admitted.iter().enumerate() {
            let Some(counts) = self.response.get_mut(*nth) else { continue };
            match living.map(|living| &living.way) {
                Some(Way::Dynamic { .. }) if at >= fixed => counts.per_request += 1,
                Some(Way::Spliced { .. }) if at >= fixed => counts.holes += 1,
                _ => counts.fixed += 1,
            }
        }
    }

    /// Says of each chain what it costs per request.
    pub(super) fn tell(&self, compiled: &CompiledSnapshot, found: &mut Diagnostics) {
        for (chain, counts) in compiled.response_chains.iter().zip(&self.response) {
            let Counts { fixed, holes, per_request } = counts;
            let message = match (fixed, holes, per_request) {
                (0, 0, 0) => "the chain's filters admit no recorded response".to_owned(),
                (_, 0, 0) => format!("the chain is compiled into {}", responses(*fixed)),
                (0, _, 0) => format!("the chain leaves holes for tokens in {}", responses(*holes)),
                (_, _, 0) => format!(
                    "the chain is compiled into {} and leaves holes for tokens in {holes}",
                    responses(*fixed)
                ),
                _ => format!(
                    "the chain runs for each request on {} and is compiled into {}",
                    responses(*per_request),
                    fixed + holes
                ),
            };
            found.push(Diagnostic::info("chain_compiled", chain.path.clone(), message));
        }
        for chain in compiled.plan.chains() {
            found.push(Diagnostic::info(
                "chain_compiled",
                chain.path.clone(),
                "the chain runs for each request, before it is matched",
            ));
        }
    }
}

fn responses(number: u64) -> String {
    format!("{number} response{}", if number == 1 { "" } else { "s" })
}
