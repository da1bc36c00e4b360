//! `jwt_resign`: a recorded JWS becomes a current one. What that means is in [`crate::jwt`].

use std::{collections::HashSet, sync::Arc};

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    jwt::{KeySource, ResignConfig, key::SecretRef},
    transform::{Step, materials::Required},
};

#[derive(Debug)]
struct JwtResign {
    config: Arc<ResignConfig>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let config = std::mem::take(&mut step.config);
    let config = ResignConfig::parse(&config, &format!("{path}.config"), found)?;
    Some(Arc::new(JwtResign { config: Arc::new(config) }))
}

impl Transform for JwtResign {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let token = match self.config.resolved(effects.scope()) {
            Some(config) => effects.resign(value, &Arc::new(config))?,
            None => effects.resign(value, &self.config)?,
        };
        apply(rest, &token, effects)
    }

    fn nature(&self) -> Nature {
        self.config.nature().max(Nature::Token)
    }

    fn sets_claims(&self, names: &mut HashSet<String>) {
        names.extend(self.config.claims.iter().map(|claim| claim.0.clone()));
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        self.config.require(required, secrets);
        if let KeySource::Secret(secret) = &self.config.secret {
            secrets.push(secret.clone());
        }
    }
}
