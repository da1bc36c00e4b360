//! What flows through a session: a value that an answer gives and a later request carries, such as a token, a cookie, an id.
//!
//! A value belongs to the flow when an answer told it before any request of the session did. When the session is driven, what the live
//! answer has at the same place takes its place in the requests.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use countersign_engine::{
    sending::{self, Asker},
    snapshot::RrPair,
};

use super::{
    Step,
    atoms::{self, Sent},
};

/// Of so many answers that give the same value the places are kept.
const MAX_GIVERS: usize = 4;
/// So many values of a session are carried.
const MAX_SLOTS: usize = 10_000;

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Path and query.
    Target,
    /// One of the step's own header fields.
    Header(usize),
    /// The body.
    Body,
}

/// How a value is written where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// As it is.
    Plain,
    /// As part of a JSON string.
    Json,
    /// Percent-encoded.
    Percent,
}

/// A carried value in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) slot: usize,
    pub(crate) piece: Piece,
    pub(crate) span: Range<usize>,
    pub(crate) written: Written,
}

/// Where an answer has a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A JSON pointer (RFC 6901) into the body.
    Json(Box<str>),
    /// A cookie that is set.
    Cookie(Box<str>),
    /// The last word of a header field.
    Header(Box<str>),
    /// The whole body.
    Whole,
}

/// A value that an answer gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Give {
    pub(crate) slot: usize,
    pub(crate) place: Place,
}

/// Finds what flows through a session; the recorded values by slot.
pub(super) fn connect(pairs: &[&RrPair], steps: &mut [Step]) -> Vec<Box<str>> {
    if steps.len() < 2 {
        return Vec::new();
    }
    let mut told: HashMap<String, Vec<(usize, Place)>> = HashMap::new();
    let mut sent: HashSet<String> = HashSet::new();
    let mut slots: HashMap<String, usize> = HashMap::new();
    let mut names: Vec<Box<str>> = Vec::new();
    let mut gives: Vec<Vec<Give>> = vec![Vec::new(); steps.len()];
    for (nth, pair) in pairs.iter().enumerate() {
        let Some(step) = steps.get_mut(nth) else { break };
        let mut uses = Vec::new();
        for Sent { piece, span, written, value, .. } in of_step(step, pair) {
            let Some(givers) = told.get_mut(&value) else {
                sent.insert(value);
                continue;
            };
            if names.len() >= MAX_SLOTS && !slots.contains_key(&value) {
                continue;
            }
            let slot = *slots.entry(value).or_insert_with_key(|value| {
                names.push(value.as_str().into());
                names.len() - 1
            });
            // From here on, whoever gave it has told so.
            for (giver, place) in givers.drain(..) {
                if let Some(gives) = gives.get_mut(giver) {
                    gives.push(Give { slot, place });
                }
            }
            uses.push(Use { slot, piece, span, written });
        }
        // Later ones first, so that what is spliced in moves no span that is yet to come.
        uses.sort_by_key(|one| std::cmp::Reverse(one.span.start));
        step.uses = uses.into();
        for atoms::Told { place, value } in atoms::of_response(&pair.response, &sending::answer(pair)) {
            if !sent.contains(&value) {
                let givers = told.entry(value).or_default();
                if givers.len() < MAX_GIVERS {
                    givers.push((nth, place));
                }
            }
        }
    }
    for (step, gives) in steps.iter_mut().zip(gives) {
        step.gives = gives.into();
    }
    names
}

fn of_step(step: &Step, pair: &RrPair) -> Vec<Sent> {
    let Some(request) = &pair.request else { return Vec::new() };
    atoms::of_request(step.target.as_str(), &step.own, request, &step.body)
}

/// The pairs of each session, in recorded order: those of one identity; and those of nobody that hang together by what stands where
/// credentials do, joined to an identity that goes on with it.
pub(super) fn group(pairs: &[RrPair], askers: &[Asker]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut of_identity: HashMap<u32, usize> = HashMap::new();
    // Which group of nobody's pairs has told a value, until somebody has joined it.
    let mut tellers: HashMap<String, usize> = HashMap::new();
    let mut joined: HashMap<usize, usize> = HashMap::new();
    let mut owned: HashSet<usize> = HashSet::new();
    let anonymous = askers.iter().any(|asker| asker.number().is_none());
    for (nth, pair) in pairs.iter().enumerate() {
        let asker = askers.get(nth).and_then(|asker| asker.number());
        let from = if anonymous { teller(pair, &tellers) } else { None };
        let from = from.map(|group| joined.get(&group).copied().unwrap_or(group));
        let group = match asker {
            None => from.unwrap_or_else(|| {
                groups.push(Vec::new());
                groups.len() - 1
            }),
            Some(identity) => {
                let own = *of_identity.entry(identity).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                owned.insert(own);
                if let Some(from) = from.filter(|from| !owned.contains(from)) {
                    let before = groups.get_mut(from).map(std::mem::take).unwrap_or_default();
                    joined.insert(from, own);
                    if let Some(own) = groups.get_mut(own) {
                        own.extend(before);
                        own.sort_unstable();
                    }
                }
                own
            }
        };
        if let Some(group) = groups.get_mut(group) {
            group.push(nth);
        }
        if asker.is_none() {
            for told in atoms::of_response(&pair.response, &pair.response.body) {
                tellers.insert(told.value, group);
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The group that has told what a request carries where credentials stand.
fn teller(pair: &RrPair, tellers: &HashMap<String, usize>) -> Option<usize> {
    if tellers.is_empty() {
        return None;
    }
    let request = pair.request.as_ref()?;
    let own: Vec<_> = super::fields(&request.headers)
        .filter(|(name, _)| !super::is_common(name.as_str()))
        .collect();
    let sent = atoms::of_request(&request.path, &own, request, &sending::body(pair));
    sent.iter().filter(|atom| atom.strong).find_map(|atom| tellers.get(&atom.value).copied())
}
