//! What was done to a recording when it was imported, and so to live requests before they are matched.

use super::{DlpConfig, RedactionKey, Redactor, strip};
use crate::{diagnostic::has_errors, request::Parts};

/// What live requests go through before they are matched, so that they look like what was stored.
#[derive(Debug, Clone, Default)]
pub struct Treatment {
    redactor: Option<Redactor>,
    stripped: bool,
}

impl Treatment {
    /// Of a recording that was redacted, or whose tokens lost their signatures, or both.
    #[must_use]
    pub fn new(redactor: Option<Redactor>, stripped: bool) -> Self {
        let redactor = redactor.filter(|redactor| redactor.config().changes_requests());
        Self { redactor, stripped }
    }

    /// What is stored of it: the text of a config and a key; `None` when they are unsound.
    #[must_use]
    pub fn stored(config: &[u8], key: &[u8], stripped: bool) -> Option<Self> {
        if config.is_empty() {
            return Some(Self::new(None, stripped));
        }
        let (config, found) = DlpConfig::parse(config);
        let key = RedactionKey::new(key.try_into().ok()?);
        (!has_errors(found.as_slice()))
            .then(|| Self::new(Some(Redactor::new(config, key)), stripped))
    }

    /// Whether requests are matched as they come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.redactor.is_none() && !self.stripped
    }

    /// What redacts live requests.
    pub(crate) fn redactor(&self) -> Option<&Redactor> {
        self.redactor.as_ref()
    }

    /// Treats a live request.
    pub(crate) fn apply(&self, parts: &mut Parts) {
        if let Some(redactor) = &self.redactor {
            redactor.redact_request(parts);
        }
        self.apply_to_recorded(parts);
    }

    /// Treats a recorded request: it was redacted when it was stored, but only some of its tokens lost their signatures.
    pub(crate) fn apply_to_recorded(&self, parts: &mut Parts) {
        if self.stripped {
            strip::strip_request(parts);
        }
    }
}

#[cfg(test)]
mod tests;
