//! What is known of the tokens of a recording, as it may be shown: no token, no JWS signature.

use super::{
    endpoint::Endpoint,
    token::{Kind, TokenId},
};

/// The tokens of a recording, and where they come from and go to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many pairs were looked at.
    pub pairs: u64,
    /// How many distinct tokens were found.
    pub tokens: u64,
    /// The tokens, those that are alike together, in the order of their first appearance.
    pub families: Vec<Family>,
    /// Requests that present a refresh token and are answered with new tokens.
    pub refreshes: Vec<Refresh>,
    /// Recorded key sets and discovery documents.
    pub documents: Vec<KeyDocument>,
    /// What looks like a token at a glance and is none.
    pub false_friends: Vec<FalseFriend>,
    /// What the report does not hold, because a limit was reached.
    pub left_out: LeftOut,
}

/// Tokens that are alike: of one kind, and issued at one place or never.
#[derive(Debug, Clone)]
pub struct Family {
    /// What they have in common.
    pub kind: Kind,
    /// Where they come from.
    pub origin: Origin,
    /// In which responses they stand, the first appearance first.
    pub issued: Vec<Sighting>,
    /// With which requests they are presented, most frequent first.
    pub used: Vec<Sighting>,
    /// How many there are.
    pub tokens: u64,
    /// How often they are presented.
    pub uses: u64,
    /// How many are issued and never presented.
    pub never_used: u64,
    /// The shortest and the longest time between `iat` and `exp`, in seconds.
    pub lifetime: Option<(i64, i64)>,
    /// Why they cannot be re-signed: a stable code and a sentence.
    pub refusal: Option<(&'static str, String)>,
    /// The recorded key set that they belong to.
    pub jwks: Option<JwksLink>,
    /// The first of them.
    pub members: Vec<Member>,
    /// How many endpoints and places are not listed in `issued` and `used`.
    pub sightings_left_out: u64,
}

/// Where tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A response of the recording.
    Issued,
    /// A request presents them before any response holds them.
    Orphan,
}

/// Where tokens stand, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The place in the message, for people.
    pub place: String,
    /// How often.
    pub count: u64,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: TokenId,
    /// Its `sub` claim.
    pub sub: String,
    /// Its `iat` claim.
    pub iat: Option<i64>,
    /// Its `exp` claim.
    pub exp: Option<i64>,
    /// How often it is presented.
    pub uses: u64,
    /// The number of the pair that holds it first.
    pub first_pair: u64,
}

/// A way to new tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Where the refresh token is presented.
    pub presented: String,
    /// Where the answer holds new tokens.
    pub issued: Vec<String>,
    /// How often.
    pub count: u64,
    /// In how many of them the recording issued the refresh token.
    pub known: u64,
}

/// A recorded JWKS (RFC 7517) or discovery document (OpenID Connect Discovery, RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocument {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What it is.
    pub kind: DocumentKind,
    /// How often it was recorded.
    pub count: u64,
}

/// What a key document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentKind {
    /// A key set: the ids of its keys, and their types.
    Jwks {
        /// Each `kid`.
        kids: Vec<String>,
        /// Each `kty`.
        types: Vec<String>,
    },
    /// A discovery document.
    Discovery {
        /// Its `issuer`.
        issuer: String,
        /// Its `jwks_uri`.
        jwks_uri: String,
    },
}

/// Which key set tokens belong to, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksLink {
    /// Where the key set was recorded.
    pub endpoint: Endpoint,
    /// `kid`, `issuer` or `host`.
    pub by: &'static str,
}

/// Text that is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalseFriend {
    /// The text, or its shape where the text might be another kind of secret.
    pub shown: String,
    /// What it is.
    pub why: &'static str,
    /// The endpoint that it was found at first.
    pub endpoint: Endpoint,
    /// The place.
    pub place: String,
    /// How often it was found.
    pub count: u64,
}

/// What was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Appearances of tokens beyond the number of distinct tokens, places or endpoints that are told apart.
    pub sightings: u64,
    /// Appearances of false friends beyond the number that is told apart.
    pub false_friends: u64,
    /// Families beyond the number that is reported.
    pub families: u64,
}
