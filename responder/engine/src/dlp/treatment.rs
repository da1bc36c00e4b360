//! What was done to a recording when it was imported, and so to live requests before they are matched.

use std::fmt;

use bytes::Bytes;

use super::{DlpConfig, RedactionKey, Redactor, strip};
use crate::request::{Parts, Request};

/// What live requests go through before they are matched, so that they look like what was stored.
#[derive(Debug, Clone, Default)]
pub struct Treatment {
    redactor: Option<Redactor>,
    stripped: bool,
}

/// What is stored of a treatment.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StoredTreatment {
    /// The text of the DLP config; empty when requests were not redacted.
    pub config: Bytes,
    /// The key of its marks.
    pub key: Bytes,
    /// Tokens lost their JWS signatures.
    pub stripped: bool,
}

/// The key is not shown.
impl fmt::Debug for StoredTreatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTreatment")
            .field("config", &self.config)
            .field("stripped", &self.stripped)
            .finish_non_exhaustive()
    }
}

impl StoredTreatment {
    /// Makes it ready; `None` when config or key are unsound.
    #[must_use]
    pub fn open(&self) -> Option<Treatment> {
        if self.config.is_empty() {
            return Some(Treatment::new(None, self.stripped));
        }
        let (config, found) = DlpConfig::parse(&self.config);
        let key = RedactionKey::new(self.key.as_ref().try_into().ok()?);
        (!found.has_errors())
            .then(|| Treatment::new(Some(Redactor::new(config, key)), self.stripped))
    }
}

impl Treatment {
    /// Of a recording that was redacted, or whose tokens lost their signatures, or both.
    #[must_use]
    pub fn new(redactor: Option<Redactor>, stripped: bool) -> Self {
        let redactor = redactor.filter(|redactor| redactor.config().changes_requests());
        Self { redactor, stripped }
    }

    /// Whether requests are matched as they come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.redactor.is_none() && !self.stripped
    }

    /// Whether it may change a request, which has to be asked before each is matched as it comes.
    pub(crate) fn may_change(&self, request: &Request<'_>) -> bool {
        self.redactor.is_some() || self.stripped && strip::may_change(request)
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
