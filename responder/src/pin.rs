//! Asking for one version of a replay, and asking which one answers: the header `x-countersign-bundle`.
//!
//! Requests without it pay nothing: it is looked for with the header that selects a replay, and everything else here is off their path.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::snapshots::{Assignment, Replay, Table};

/// Selects a replay by its id or full name.
const REPLAY: HeaderName = HeaderName::from_static("x-countersign-replay");
/// Asks for a bundle by its digest, or with `?` which one answers; and says so in the response.
pub(crate) const BUNDLE: HeaderName = HeaderName::from_static("x-countersign-bundle");
/// What both names begin with.
const OURS: &str = "x-countersign-";
/// How long both are, which few others are.
const LENGTH: usize = 20;
/// So much of a digest has to be given.
const SHORTEST: usize = 12;

/// What a request wants answered by whom.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The replay that it selects.
    pub(crate) replay: Option<String>,
    /// The version that it asks for.
    pub(crate) version: Option<Version>,
}

/// A version of a replay, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    /// Whichever answers; it is to be told.
    Any,
    /// The one whose digest begins like this.
    Only(String),
}

/// The version that was asked for cannot answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotServed {
    pub(crate) wanted: String,
    pub(crate) why: &'static str,
    /// What can be asked for.
    pub(crate) versions: Vec<Assignment>,
}

impl Selection {
    /// Reads what is selected.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if !has_ours(headers) {
            return Self::default();
        }
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let replay = text(&REPLAY).map(str::to_owned);
        // What is no text is no digest either.
        let version =
            headers.get(&BUNDLE).map(|value| Version::parse(value.to_str().unwrap_or("")));
        Self { replay, version }
    }

    /// The same, and takes it out: the recording knows nothing of these fields.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        if !has_ours(headers) {
            return Self::default();
        }
        let selection = Self::of(headers);
        headers.remove(&REPLAY);
        headers.remove(&BUNDLE);
        selection
    }
}

/// One look at each name costs less than looking up two that are seldom there.
fn has_ours(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(HeaderName::as_str)
        .any(|name| name.len() == LENGTH && name.starts_with(OURS))
}

impl Version {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "?" {
            return Self::Any;
        }
        Self::Only(text.strip_prefix("blake3:").unwrap_or(text).to_ascii_lowercase())
    }

    /// The replays of this version, in the order in which they are asked.
    pub(crate) fn among<'t>(
        &self,
        table: &'t Table,
        replay: Option<&str>,
    ) -> Result<Vec<&'t Arc<Replay>>, NotServed> {
        let selected: Vec<&Arc<Replay>> = table
            .versions()
            .filter(|it| replay.is_none_or(|wanted| it.assignment.is_called(wanted)))
            .collect();
        let Self::Only(wanted) = self else { return Ok(selected) };
        let refused = |why| NotServed {
            wanted: wanted.clone(),
            why,
            versions: selected.iter().map(|it| it.assignment.clone()).collect(),
        };
        if wanted.len() < SHORTEST || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused(
                "a bundle is asked for by at least 12 digits of its digest, in hex",
            ));
        }
        let found: Vec<&Arc<Replay>> = selected
            .iter()
            .filter(|it| it.assignment.bundle.to_hex().starts_with(wanted.as_str()))
            .copied()
            .collect();
        let Some(first) = found.first().map(|it| it.assignment.bundle) else {
            return Err(refused(
                "this responder serves no such bundle, nor did it before the last change",
            ));
        };
        if found.iter().any(|it| it.assignment.bundle != first) {
            return Err(refused("several bundles begin like this"));
        }
        Ok(found)
    }
}

/// The digest of a version, for a response.
pub(crate) fn digest(replay: &Replay) -> Option<HeaderValue> {
    HeaderValue::from_str(&replay.assignment.bundle.to_hex()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_taken_out_and_read() {
        for name in [REPLAY, BUNDLE] {
            assert!(name.as_str().len() == LENGTH && name.as_str().starts_with(OURS));
        }
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert_eq!(Selection::take(&mut headers).version, None);
        headers.insert(REPLAY, HeaderValue::from_static("r"));
        headers.insert(BUNDLE, HeaderValue::from_static("blake3:ABCDEF012345"));
        let selection = Selection::take(&mut headers);
        assert_eq!(selection.replay.as_deref(), Some("r"));
        assert_eq!(selection.version, Some(Version::Only("abcdef012345".into())));
        assert_eq!(headers.len(), 1);
        assert_eq!(Version::parse(" ? "), Version::Any);
    }
}
