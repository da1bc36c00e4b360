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
        for atoms::Told { place, value } in
            atoms::of_response(&pair.response, &sending::answer(pair))
        {
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

/// The pairs of each session, in recorded order: those of one identity, and those that hang together by what stands where credentials do,
/// so that what leads to a login belongs to who logs in.
pub(super) fn group(pairs: &[RrPair], askers: &[Asker]) -> Vec<Vec<usize>> {
    let mut of_identity: HashMap<u32, usize> = HashMap::new();
    // Each group leads to the one that it was joined to.
    let mut joined: Vec<usize> = Vec::new();
    let mut of_pair: Vec<usize> = Vec::with_capacity(pairs.len());
    let mut tellers: HashMap<String, usize> = HashMap::new();
    for (nth, pair) in pairs.iter().enumerate() {
        let from = teller(pair, &tellers).map(|group| root(&joined, group));
        let asker = askers.get(nth).and_then(|asker| asker.number());
        let known = asker.and_then(|identity| of_identity.get(&identity).copied());
        let group = match (known.map(|group| root(&joined, group)), from) {
            (Some(own), Some(from)) => {
                if let Some(leads) = joined.get_mut(from) {
                    *leads = own;
                }
                own
            }
            (Some(group), None) | (None, Some(group)) => group,
            (None, None) => {
                joined.push(joined.len());
                joined.len() - 1
            }
        };
        if let Some(identity) = asker {
            of_identity.insert(identity, group);
        }
        of_pair.push(group);
        for told in atoms::of_response(&pair.response, &pair.response.body) {
            // What the group has is no news to it.
            if told.value.len() >= atoms::MIN_STRONG {
                tellers.entry(told.value).or_insert(group);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); joined.len()];
    for (nth, group) in of_pair.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(root(&joined, group)) {
            group.push(nth);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The group that a group was joined to in the end.
fn root(joined: &[usize], mut group: usize) -> usize {
    while let Some(next) = joined.get(group).copied().filter(|next| *next != group) {
        group = next;
    }
    group
}

/// The group that has told what a request carries where credentials stand.
fn teller(pair: &RrPair, tellers: &HashMap<String, usize>) -> Option<usize> {
    if tellers.is_empty() {
        return None;
    }
    let request = pair.request.as_ref()?;
    let own: Vec<_> = super::fields(&request.headers)
        .filter(|(name, _)| {
            !super::is_common(name.as_str()) && !super::NOT_SENT.contains(&name.as_str())
        })
        .collect();
    let sent = atoms::of_request(&request.path, &own, request, &sending::body(pair));
    sent.iter().filter(|atom| atom.strong).find_map(|atom| tellers.get(&atom.value).copied())
}
