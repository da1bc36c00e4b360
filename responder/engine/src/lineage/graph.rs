//! From single finds to the graph of issue and use. Pairs may come in any order: what was first is decided by their ordinals.
//!
//! Memory is bounded whatever the recording holds: per distinct token a digest, a few numbers and a few sightings are kept.

use std::collections::{BTreeMap, HashMap};

use super::{
    endpoint::Endpoint,
    find::{Hit, Seen},
    place::{Hop, Part, Place},
    report::{FalseFriend, LeftOut},
    token::{Kind, Summary, TokenId},
};
use crate::jwt::TokenError;

/// So many distinct tokens are told apart.
const MAX_TOKENS: usize = 100_000;
/// So many distinct endpoints, places and kinds are told apart.
const MAX_NAMES: usize = 20_000;
/// So many sightings of one token are told apart.
const MAX_SIGHTINGS: usize = 32;
/// So many distinct false friends are told apart.
const MAX_FRIENDS: usize = 200;
/// So many presented refresh tokens are kept per endpoint.
const MAX_REFRESHES: usize = 10_000;

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) endpoints: Names<Endpoint>,
    /// The paths of each endpoint.
    pub(super) paths: Vec<Paths>,
    pub(super) places: Names<Place>,
    pub(super) kinds: Names<Kind>,
    pub(super) tokens: HashMap<TokenId, Record>,
    pub(super) friends: BTreeMap<(String, &'static str), FalseFriend>,
    pub(super) refreshes: BTreeMap<(usize, usize), RefreshEdge>,
    pub(super) left_out: LeftOut,
}

/// The paths of an endpoint as they were recorded.
#[derive(Debug)]
pub(super) struct Paths {
    /// The path; `None` when there are several.
    pub(super) only: Option<String>,
    /// Some of them have a query.
    pub(super) query: bool,
}

/// One token.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) kind: usize,
    pub(super) sub: Box<str>,
    pub(super) iat: Option<i64>,
    pub(super) exp: Option<i64>,
    pub(super) refusal: Option<Box<TokenError>>,
    /// Appearances in responses.
    pub(super) issued: Vec<Seat>,
    /// Appearances in requests.
    pub(super) used: Vec<Seat>,
}

/// Where a token appears.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) endpoint: usize,
    pub(super) place: usize,
    /// The ordinal of the first pair.
    pub(super) first: u64,
    pub(super) count: u64,
}

/// Refresh tokens presented at an endpoint.
#[derive(Debug, Default)]
pub(super) struct RefreshEdge {
    pub(super) presented: Vec<TokenId>,
    pub(super) count: u64,
    pub(super) issued: BTreeMap<usize, u64>,
}

impl Record {
    /// Whether a response holds it before any request does. Within a pair the request comes first.
    pub(super) fn is_issued(&self) -> bool {
        let first = |seats: &[Seat]| seats.iter().map(|seat| seat.first).min();
        match (first(&self.issued), first(&self.used)) {
            (Some(issued), Some(used)) => issued < used,
            (issued, _) => issued.is_some(),
        }
    }

    /// How often it is presented.
    pub(super) fn uses(&self) -> u64 {
        self.used.iter().map(|seat| seat.count).sum()
    }

    /// Its first appearance.
    pub(super) fn first(&self) -> u64 {
        self.issued.iter().chain(&self.used).map(|seat| seat.first).min().unwrap_or(u64::MAX)
    }
}

impl Graph {
    /// Takes in what one message holds.
    pub(super) fn add(&mut self, ordinal: u64, endpoint: usize, hits: &[Hit]) {
        for hit in hits {
            match &hit.seen {
                Seen::FalseFriend { shown, why } => self.friend(endpoint, &hit.place, shown, why),
                Seen::Token(token) => {
                    if self.token(ordinal, endpoint, &hit.place, token).is_none() {
                        self.left_out.sightings += 1;
                    }
                }
            }
        }
    }

    /// The number of an endpoint.
    pub(super) fn endpoint(&mut self, endpoint: Endpoint, path: String) -> Option<usize> {
        let number = self.endpoints.number(endpoint)?;
        let query = path.contains('?');
        match self.paths.get_mut(number) {
            Some(known) => {
                known.query |= query;
                known.only = known.only.take().filter(|only| *only == path);
            }
            None => self.paths.push(Paths { only: Some(path), query }),
        }
        Some(number)
    }

    fn token(
        &mut self,
        ordinal: u64,
        endpoint: usize,
        place: &Place,
        token: &Summary,
    ) -> Option<()> {
        let full = self.tokens.len() >= MAX_TOKENS;
        if full && !self.tokens.contains_key(&token.id) {
            return None;
        }
        let kind = self.kinds.number(token.kind.clone())?;
        let number = self.places.number(place.clone())?;
        let record = self.tokens.entry(token.id).or_insert_with(|| Record {
            kind,
            sub: token.sub.as_str().into(),
            iat: token.iat,
            exp: token.exp,
            refusal: token.refusal.clone().map(Box::new),
            ..Record::default()
        });
        let seats = if place.is_response() { &mut record.issued } else { &mut record.used };
        let known = seats.iter_mut().find(|seat| seat.endpoint == endpoint && seat.place == number);
        if let Some(seat) = known {
            seat.count += 1;
            seat.first = seat.first.min(ordinal);
        } else if seats.len() < MAX_SIGHTINGS {
            seats.push(Seat { endpoint, place: number, first: ordinal, count: 1 });
        } else {
            return None;
        }
        Some(())
    }

    fn friend(&mut self, endpoint: usize, place: &Place, shown: &str, why: &'static str) {
        let full = self.friends.len() >= MAX_FRIENDS;
        let key = (shown.to_owned(), why);
        if let Some(friend) = self.friends.get_mut(&key) {
            friend.count += 1;
        } else if full {
            self.left_out.false_friends += 1;
        } else if let Some(endpoint) = self.endpoints.get(endpoint).cloned() {
            let (shown, place) = (shown.to_owned(), place.to_string());
            self.friends.insert(key, FalseFriend { shown, why, endpoint, place, count: 1 });
        }
    }

    /// Takes in that a refresh token was presented and answered with tokens.
    pub(super) fn refresh(&mut self, endpoint: usize, request: &[Hit], response: &[Hit]) {
        let tokens = |hits: &[Hit]| -> Vec<(TokenId, Place)> {
            hits.iter()
                .filter_map(|hit| match &hit.seen {
                    Seen::Token(token) => Some((token.id, hit.place.clone())),
                    Seen::FalseFriend { .. } => None,
                })
                .collect()
        };
        let issued = tokens(response);
        let presented = tokens(request).into_iter().find(|(_, place)| names_refresh_token(place));
        let Some((presented, place)) = presented.filter(|_| !issued.is_empty()) else { return };
        let Some(place) = self.places.number(place) else { return };
        let numbers: Vec<usize> =
            issued.into_iter().filter_map(|(_, place)| self.places.number(place)).collect();
        let edge = self.refreshes.entry((endpoint, place)).or_default();
        edge.count += 1;
        if edge.presented.len() < MAX_REFRESHES {
            edge.presented.push(presented);
        }
        for number in numbers {
            *edge.issued.entry(number).or_default() += 1;
        }
    }
}

/// Whether the innermost name of a place is the one of a refresh token.
fn names_refresh_token(place: &Place) -> bool {
    let name = place.hops.iter().rev().find_map(|hop| match hop {
        Hop::Json(path) => Some(path.rsplit('.').next().unwrap_or_default()),
        Hop::Parameter(name) => Some(name),
        _ => None,
    });
    let name = name.unwrap_or(match &place.part {
        Part::Form(name) | Part::Query(name) | Part::Cookie(name) => name,
        _ => "",
    });
    matches!(name, "refresh_token" | "refreshToken")
}

/// Numbers things in the order of their first appearance.
#[derive(Debug)]
pub(super) struct Names<T> {
    list: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { list: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Names<T> {
    /// The number of a thing; `None` when there are too many.
    fn number(&mut self, thing: T) -> Option<usize> {
        if let Some(number) = self.numbers.get(&thing) {
            return Some(*number);
        }
        let number = self.list.len();
        if number >= MAX_NAMES {
            return None;
        }
        self.list.push(thing.clone());
        self.numbers.insert(thing, number);
        Some(number)
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.list.get(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.list.iter()
    }

    /// Whether there may be more than it knows.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MAX_NAMES
    }
}
