//! What an import takes out of pairs before they are stored: values by a DLP config, and JWS signatures.
//!
//! Values are taken out as pairs are read. Signatures need two looks: a token may be used before the response that issued it is read, so
//! reading only notes which tokens are re-signed, and their signatures are taken out when the pairs are cut into chunks.

use bytes::Bytes;
use countersign_engine::{
    diagnostic::Diagnostic,
    dlp::{
        Redactor, Report, StoredTreatment, Tally,
        strip::{Stripper, has_token},
    },
    snapshot::RrPair,
    transform::PairFilter,
};

/// What is to be taken out.
#[derive(Debug, Default)]
pub struct Treating {
    /// The redactor, and the text of its config.
    pub redactor: Option<(Redactor, Bytes)>,
    /// Which tokens lose their signatures.
    pub stripper: Option<Stripper>,
}

/// What was taken out.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    /// The id of the DLP config; empty when there was none.
    pub config: String,
    /// Counts and places.
    pub report: Report,
    /// Requests were redacted, too.
    pub changes_requests: bool,
    /// How many signatures were taken out.
    pub signatures: u64,
}

/// One thread's part of the work.
#[derive(Debug, Default)]
pub(super) struct Worker {
    filter: Option<PairFilter>,
    redactor: Option<Redactor>,
    tally: Tally,
    stripper: Option<Stripper>,
    /// Some pair holds a token.
    tokens: bool,
}

impl Treating {
    pub(super) fn worker(&self, filter: Option<PairFilter>) -> Worker {
        let redactor = self.redactor.as_ref().map(|(redactor, _)| redactor.clone());
        let tally = redactor.as_ref().map_or_else(Tally::off, |r| Tally::new(r.config()));
        Worker { filter, redactor, tally, stripper: self.stripper.clone(), tokens: false }
    }

    fn asked(&self) -> bool {
        self.redactor.is_some() || self.stripper.is_some()
    }
}

impl Worker {
    /// Redacts a pair and notes its tokens; `false` when the pair is not selected.
    pub(super) fn pair(&mut self, pair: &mut RrPair) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.selects(pair)) {
            return false;
        }
        if let Some(redactor) = &self.redactor {
            redactor.redact_pair(pair, &mut self.tally);
        }
        match &mut self.stripper {
            // As it is served: filters look at what is stored.
            Some(stripper) => stripper.observe(pair),
            None => self.tokens = self.tokens || has_token(pair),
        }
        true
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.tokens |= other.tokens;
        match (&mut self.stripper, other.stripper) {
            (Some(stripper), Some(other)) => stripper.merge(other),
            (none @ None, other) => *none = other,
            (Some(_), None) => {}
        }
    }

    /// What is known after everything was read: the report, what is to be told, and what is left to be done.
    pub(super) fn finish(self, treating: &Treating) -> Read {
        let mut findings = Vec::new();
        let stripper = self.stripper.unwrap_or_default();
        if self.tokens {
            findings.push(
                Diagnostic::info(
                    "signatures_kept",
                    "",
                    "there are tokens in the recording; their JWS signatures are stored, so that they are valid until they expire",
                )
                .hint("import with `--transform ID` to leave out the signatures of what it re-signs, or with `--strip-signatures`"),
            );
        }
        if stripper.hidden() > 0 {
            let message = "tokens that are re-signed stand in encoded data, where their JWS signatures are kept";
            findings.push(Diagnostic {
                count: stripper.hidden(),
                ..Diagnostic::warning("signatures_hidden", "", message)
            });
        }
        let redaction = treating.asked().then(|| match &treating.redactor {
            Some((redactor, _)) => Redaction {
                config: redactor.config().id().to_owned(),
                report: self.tally.report(redactor.config()),
                changes_requests: redactor.config().changes_requests(),
                signatures: 0,
            },
            None => Redaction::default(),
        });
        if let Some(redaction) = redaction.as_ref().filter(|redaction| redaction.changes_requests) {
            findings.push(Diagnostic::info(
                "requests_redacted",
                "",
                format!("requests were redacted with `{}`; live ones are redacted alike before they are matched", redaction.config),
            ));
        }
        let stored = match &treating.redactor {
            Some((redactor, text)) if redactor.config().changes_requests() => StoredTreatment {
                config: text.clone(),
                key: Bytes::copy_from_slice(redactor.key().bytes()),
                stripped: false,
            },
            _ => StoredTreatment::default(),
        };
        let stored = StoredTreatment { stripped: !stripper.is_empty(), ..stored };
        let stored = (stored != StoredTreatment::default()).then_some(stored);
        Read { stripper, redaction, findings, stored }
    }
}

/// What is known after everything was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) stripper: Stripper,
    pub(super) redaction: Option<Redaction>,
    pub(super) findings: Vec<Diagnostic>,
    pub(super) stored: Option<StoredTreatment>,
}
