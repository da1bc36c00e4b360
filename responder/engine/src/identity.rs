//! Who asks: the identity behind the credential that a request presents.
//!
//! When a snapshot is compiled, [`survey()`] looks at every credential in the recording and gives each identity a number; a live request's
//! credential leads to the same number through the claims of its token that stay when it is re-signed, through the recorded request that an
//! opaque token was issued to, or through a user's name. Nothing is verified, since a mock does not authenticate. Who cannot be recognised is
//! unknown, which narrows nothing.

mod claims;
mod credential;
mod fields;
mod heard;
mod issue;
mod lists;
mod login;
mod mark;
mod place;
mod survey;
mod walk;

use std::collections::{BTreeSet, HashMap};

use crate::request::Request;
use claims::Choice;
pub(crate) use credential::{Credential, claims_of, is_token_byte};
use credential::{Key, opaque_key, session_key, user_key};
pub(crate) use heard::Heard;
pub(crate) use mark::may_hold_token;
use place::Place;
pub(crate) use survey::{Seen, survey};

/// So many labels are told at a time.
const MAX_LABELS: usize = 3;

/// The number of an identity in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct IdentityId(u32);

impl IdentityId {
    /// Who presents nothing.
    pub(crate) const NOBODY: Self = Self(0);

    /// The identity at a place in a list of all of them.
    pub(crate) fn at(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(Self)
    }

    /// Its place in a list of all identities.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// An identity of the recording.
    Known(IdentityId),
    /// Somebody with a credential that the recording does not know.
    Unknown,
}

/// The identities of a snapshot.
#[derive(Debug)]
pub(crate) struct Identities {
    /// Where credentials are, the most telling place first.
    places: Vec<Place>,
    choice: Choice,
    by_key: HashMap<Key, IdentityId, rapidhash::fast::RandomState>,
    /// What may be told of each identity.
    labels: Vec<Box<str>>,
    /// What the tokens that recorded requests present say.
    heard: Heard,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            places: vec![Place::authorization()],
            choice: Choice::default(),
            by_key: HashMap::default(),
            labels: vec!["nobody".into()],
            heard: Heard::default(),
        }
    }
}

/// The spans of a text that look like JWTs.
pub(crate) fn token_runs(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    mark::runs(text).collect()
}

/// Every credential that a request presents, and where.
pub(crate) fn presented(request: &Request<'_>) -> Vec<(String, Credential<'static>)> {
    let mut found = Vec::new();
    place::all(request, &mut |place, credential| {
        found.push((place.to_string(), credential.into_owned()));
    });
    found
}

impl Identities {
    /// How many identities there are, nobody included.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// What may be told of an identity.
    pub(crate) fn label(&self, identity: IdentityId) -> &str {
        self.labels.get(identity.index()).map_or("", |label| label)
    }

    /// The identities of which this is told.
    pub(crate) fn named(&self, label: &str) -> impl Iterator<Item = IdentityId> {
        let numbered = (0..).map(IdentityId).zip(&self.labels);
        numbered.filter(move |(_, known)| ***known == *label).map(|(identity, _)| identity)
    }

    /// Who presents this request. `session` is the one that a chain has named.
    pub(crate) fn who(&self, request: &Request<'_>, session: Option<&[u8]>) -> Who {
        let known = |key: &Key| self.by_key.get(key).copied().map(Who::Known);
        if let Some(who) = session.and_then(|session| known(&session_key(session))) {
            return who;
        }
        let mut presented = session.is_some();
        for place in &self.places {
            let Some(credential) = place.find(request) else { continue };
            presented = true;
            if let Some(who) = known(&self.key(&credential)) {
                return who;
            }
        }
        if presented { Who::Unknown } else { Who::Known(IdentityId::NOBODY) }
    }

    /// The identity that a credential leads to.
    pub(crate) fn recognise(&self, credential: &Credential<'_>) -> Option<IdentityId> {
        self.by_key.get(&self.key(credential)).copied()
    }

    /// Who presents a credential, as identities are labelled; `None` when it does not say, or the recording asks nobody.
    pub(crate) fn tell(&self, credential: &Credential<'_>) -> Option<String> {
        match credential {
            Credential::User(name) => Some(format!("user {name}")),
            Credential::Opaque(_) => None,
            Credential::Jwt(token) => {
                let claims = claims_of(token)?;
                let chosen = &self.choice.identity;
                (!chosen.0.is_empty()).then(|| chosen.tell(&claims))
            }
        }
    }

    /// The labels of some identities, the first few of them in order.
    pub(crate) fn labels(&self, identities: impl Iterator<Item = IdentityId>) -> Vec<String> {
        let all: BTreeSet<IdentityId> = identities.collect();
        let told = all.iter().take(MAX_LABELS).map(|identity| self.label(*identity).to_owned());
        let mut told: Vec<String> = told.collect();
        if all.len() > MAX_LABELS {
            told.push(format!("{} more", all.len() - MAX_LABELS));
        }
        told
    }

    /// Every identity but nobody.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = IdentityId> {
        (1..u32::try_from(self.labels.len()).unwrap_or(u32::MAX)).map(IdentityId)
    }

    /// What the tokens of recorded requests say.
    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The identity of a session that a chain has named for a recorded request.
    pub(crate) fn of_session(&mut self, session: &[u8]) -> IdentityId {
        let name: String = String::from_utf8_lossy(session).chars().take(64).collect();
        self.intern(session_key(session), || format!("session {name}"))
    }

    fn key(&self, credential: &Credential<'_>) -> Key {
        match credential {
            Credential::User(name) => user_key(name),
            Credential::Opaque(text) => opaque_key(text),
            Credential::Jwt(token) => claims_of(token)
                .and_then(|claims| self.choice.identity.key(b'j', &claims))
                .unwrap_or_else(|| opaque_key(token)),
        }
    }

    fn intern(&mut self, key: Key, label: impl FnOnce() -> String) -> IdentityId {
        // More identities than numbers have no numbers of their own.
        let next = IdentityId(u32::try_from(self.labels.len()).unwrap_or(0));
        *self.by_key.entry(key).or_insert_with(|| {
            self.labels.push(label().into_boxed_str());
            next
        })
    }
}

#[cfg(test)]
mod tests;
