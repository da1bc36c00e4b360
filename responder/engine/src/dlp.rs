//! Redaction: what must not be kept of a recording is replaced before it is stored.
//!
//! A [`DlpConfig`] says what, by name, path and pattern. A [`Redactor`] puts a mark `REDACTED-<CATEGORY>-<HASH>` in the place of a value.
//! The hash is keyed and depends on the value alone, so that a value has the same mark in every request and response of a snapshot:
//! what a client got in one answer and sends in the next request still fits. Live requests go through the same redactor before they are
//! matched, see [`Redactor::redact_request`].
//!
//! Bytes that are not replaced stay as they were recorded. JWS are left, because callers are told apart by their claims and because they
//! are re-signed; [`strip`] takes their signatures out.

mod config;
mod document;
mod invent;
mod mark;
mod message;
mod pair;
mod pattern;
mod report;
mod standard;
pub mod strip;
mod text;
pub(crate) mod token;
mod treatment;
mod value;
mod veil;
mod xml;

use std::sync::{Arc, LazyLock};

use crate::request::Parts;

pub use config::DlpConfig;
pub use mark::RedactionKey;
pub use report::{Report, RuleReport, Tally};
pub use treatment::{StoredTreatment, Treatment};
use value::Pass;
pub use veil::Veil;

/// Redacts under a config, with a key.
#[derive(Debug, Clone)]
pub struct Redactor {
    config: Arc<DlpConfig>,
    key: RedactionKey,
}

impl Default for Redactor {
    /// The built-in config, with a key that everybody knows: its marks tell values apart and do not hide them from who can guess.
    fn default() -> Self {
        // Its patterns are compiled once: every world has a redactor, and few ask it.
        static STANDARD: LazyLock<Redactor> = LazyLock::new(|| {
            let config = DlpConfig::built_in("standard").unwrap_or_default();
            Redactor::new(config, RedactionKey::from_seed(b"countersign"))
        });
        STANDARD.clone()
    }
}

impl Redactor {
    /// A redactor.
    #[must_use]
    pub fn new(config: DlpConfig, key: RedactionKey) -> Self {
        Self { config: Arc::new(config), key }
    }

    /// What it redacts.
    #[must_use]
    pub fn config(&self) -> &DlpConfig {
        &self.config
    }

    /// What it makes marks with.
    #[must_use]
    pub fn key(&self) -> &RedactionKey {
        &self.key
    }

    /// The mark of a value, or what was invented for it when the config says so. An empty value, a mark and an invented value stay.
    #[must_use]
    pub fn field(&self, category: &str, value: &[u8]) -> Vec<u8> {
        let replaced = value.is_empty() || mark::parse(value).is_some();
        if replaced || (self.config.reverse && invent::is_invented(value)) {
            return value.to_vec();
        }
        self.replace(&mark::category(category), value)
    }

    /// A value of the category that belongs to nobody, the same for the same value; a mark where there is no way to invent one.
    #[must_use]
    pub fn invented(&self, category: &str, value: &[u8]) -> Vec<u8> {
        let category = mark::category(category);
        invent::invent(&self.key, &category, value)
            .unwrap_or_else(|| mark::mark(&self.key, &category, value).into_bytes())
    }

    /// The body with what the config names redacted; a gzipped one is unfolded for it and folded again. `None` when nothing changes.
    #[must_use]
    pub fn json(&self, body: &[u8]) -> Option<Vec<u8>> {
        Pass::new(self, &mut Tally::off()).body(b"application/json", body)
    }

    /// Redacts a live request. It gives the same as redacting the request when it was recorded, so that the two still match.
    pub(crate) fn redact_request(&self, parts: &mut Parts) {
        if self.config.changes_requests() {
            Pass::new(self, &mut Tally::off()).parts(parts);
        }
    }

    fn replace(&self, category: &str, value: &[u8]) -> Vec<u8> {
        let invented =
            self.config.reverse.then(|| invent::invent(&self.key, category, value)).flatten();
        invented.unwrap_or_else(|| mark::mark(&self.key, category, value).into_bytes())
    }
}

#[cfg(test)]
mod tests;
