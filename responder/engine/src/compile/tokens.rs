//! Which tokens of a recorded response a template re-signs, without re-signing them.

use std::{fmt, sync::Arc};

use super::{draft::token_error, recorded_reply, run_on_response};
use crate::{
    jwt::{ResignConfig, TokenSlot},
    request::Parts,
    snapshot::RrPair,
    transform::{
        Chain, Scope, Side, Template, World,
        op::{Effects, StepError},
    },
};

/// The chains of a template that work on responses.
#[derive(Clone)]
pub(crate) struct Resigned {
    chains: Vec<Chain>,
    world: Arc<World>,
}

impl Resigned {
    pub(crate) fn by(template: &Template) -> Self {
        let responses = template.chains().iter().filter(|chain| chain.side() == Side::Response);
        Self { chains: responses.cloned().collect(), world: template.world(None) }
    }

    /// The values that are re-signed in the pair's response: tokens, with what stands before them.
    pub(crate) fn of(&self, pair: &RrPair) -> Vec<Vec<u8>> {
        if self.chains.is_empty() {
            return Vec::new();
        }
        let parts = Parts::of_recorded(pair);
        let admitted: Vec<usize> = self
            .chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.filters.admits(pair, &parts))
            .map(|(nth, _)| nth)
            .collect();
        let mut reply = recorded_reply(pair, !admitted.is_empty());
        let scope = Scope::recorded(&self.world, Side::Response, pair.ts);
        let mut tokens = Tokens { met: Vec::new(), recorded_at: pair.ts, scope };
        run_on_response(&self.chains, &admitted, &mut reply, &mut tokens, |_, _| {});
        tokens.met
    }
}

impl fmt::Debug for Resigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resigned").field("chains", &self.chains.len()).finish_non_exhaustive()
    }
}

/// Notes tokens and leaves them in their place.
struct Tokens {
    met: Vec<Vec<u8>>,
    recorded_at: Option<i64>,
    scope: Scope,
}

impl Effects for Tokens {
    fn resign(&mut self, token: &[u8], config: &Arc<ResignConfig>) -> Result<Vec<u8>, StepError> {
        if !token.is_empty() {
            TokenSlot::new(token, config, self.recorded_at).map_err(|why| token_error(&why))?;
            self.met.push(token.to_vec());
        }
        Ok(token.to_vec())
    }

    fn resigned(&self) -> usize {
        self.met.len()
    }

    fn forget(&mut self, resigned: usize) {
        self.met.truncate(resigned);
    }

    fn scope(&mut self) -> &mut Scope {
        &mut self.scope
    }
}
