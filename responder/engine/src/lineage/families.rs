//! From the graph to the report: tokens that are alike become one family.

use std::collections::BTreeMap;

use super::{
    graph::{Graph, Record, Seat},
    keys::jwks_of,
    report::{Family, KeyDocument, Member, Origin, Refresh, Report, Sighting},
    token::{Kind, TokenId},
};

/// So many families are reported.
const MAX_FAMILIES: usize = 500;
/// So many members of a family are reported.
const MAX_MEMBERS: usize = 20;
/// So many sightings of a family are reported.
const MAX_SIGHTINGS: usize = 20;

/// What makes tokens alike: origin and kind, and where they were issued.
type Key<'g> = (Origin, &'g Kind, Option<(usize, usize)>);

/// The report of a graph.
pub(super) fn report(graph: &Graph, documents: Vec<KeyDocument>, pairs: u64) -> Report {
    let mut grouped: BTreeMap<Key<'_>, Vec<(TokenId, &Record)>> = BTreeMap::new();
    for (id, record) in &graph.tokens {
        let Some(kind) = graph.kinds.get(record.kind) else { continue };
        let (origin, place) = if record.is_issued() {
            let first = record.issued.iter().min_by_key(|seat| seat.first);
            (Origin::Issued, first.map(|seat| (seat.endpoint, seat.place)))
        } else {
            (Origin::Orphan, None)
        };
        grouped.entry((origin, kind, place)).or_default().push((*id, record));
    }
    let mut families: Vec<(u64, Family)> = grouped
        .into_iter()
        .map(|((origin, kind, _), mut tokens)| {
            tokens.sort_by_key(|(id, record)| (record.first(), *id));
            let first = tokens.first().map_or(u64::MAX, |(_, record)| record.first());
            (first, family(graph, origin, kind, &tokens, &documents))
        })
        .collect();
    families.sort_by_key(|family| family.0);
    let mut left_out = graph.left_out;
    left_out.families = u64::try_from(families.len().saturating_sub(MAX_FAMILIES)).unwrap_or(0);
    families.truncate(MAX_FAMILIES);
    Report {
        pairs,
        tokens: u64::try_from(graph.tokens.len()).unwrap_or(u64::MAX),
        families: families.into_iter().map(|(_, family)| family).collect(),
        refreshes: refreshes(graph),
        documents,
        false_friends: friends(graph),
        left_out,
    }
}

fn family(
    graph: &Graph,
    origin: Origin,
    kind: &Kind,
    tokens: &[(TokenId, &Record)],
    documents: &[KeyDocument],
) -> Family {
    let lifetimes = tokens
        .iter()
        .filter_map(|(_, record)| record.exp?.checked_sub(record.iat?))
        .fold(None, |range: Option<(i64, i64)>, life| {
            Some(range.map_or((life, life), |(low, high)| (low.min(life), high.max(life))))
        });
    let count = |holds: &dyn Fn(&Record) -> bool| {
        u64::try_from(tokens.iter().filter(|(_, record)| holds(record)).count()).unwrap_or(u64::MAX)
    };
    let mut issued = sightings(graph, tokens.iter().flat_map(|(_, record)| &record.issued));
    let mut used = sightings(graph, tokens.iter().flat_map(|(_, record)| &record.used));
    used.sort_by_key(|sighting| std::cmp::Reverse(sighting.count));
    let more =
        issued.len().saturating_sub(MAX_SIGHTINGS) + used.len().saturating_sub(MAX_SIGHTINGS);
    issued.truncate(MAX_SIGHTINGS);
    used.truncate(MAX_SIGHTINGS);
    let refusal = tokens.iter().find_map(|(_, record)| record.refusal.as_ref());
    Family {
        kind: kind.clone(),
        origin,
        issued,
        used,
        tokens: count(&|_| true),
        uses: tokens.iter().map(|(_, record)| record.uses()).sum(),
        never_used: count(&|record| record.used.is_empty()),
        lifetime: lifetimes,
        refusal: refusal.map(|why| (why.code(), why.to_string())),
        jwks: jwks_of(kind, documents),
        members: tokens.iter().take(MAX_MEMBERS).map(member).collect(),
        sightings_left_out: u64::try_from(more).unwrap_or(u64::MAX),
    }
}

fn member((id, record): &(TokenId, &Record)) -> Member {
    Member {
        id: *id,
        sub: record.sub.to_string(),
        iat: record.iat,
        exp: record.exp,
        uses: record.uses(),
        first_pair: record.first(),
    }
}

/// The seats of many tokens together, in the order of first appearance.
fn sightings<'g>(graph: &Graph, seats: impl Iterator<Item = &'g Seat>) -> Vec<Sighting> {
    let mut together: BTreeMap<(usize, usize), (u64, u64)> = BTreeMap::new();
    for seat in seats {
        let entry = together.entry((seat.endpoint, seat.place)).or_insert((u64::MAX, 0));
        *entry = (entry.0.min(seat.first), entry.1 + seat.count);
    }
    let mut together: Vec<_> = together.into_iter().collect();
    together.sort_by_key(|((endpoint, place), (first, _))| {
        (*first, graph.endpoints.get(*endpoint), graph.places.get(*place))
    });
    together
        .into_iter()
        .filter_map(|((endpoint, place), (_, count))| {
            Some(Sighting {
                endpoint: graph.endpoints.get(endpoint)?.clone(),
                place: graph.places.get(place)?.to_string(),
                count,
            })
        })
        .collect()
}

fn refreshes(graph: &Graph) -> Vec<Refresh> {
    let edges = graph.refreshes.iter().filter_map(|((endpoint, place), edge)| {
        let is_known = |id: &&TokenId| graph.tokens.get(*id).is_some_and(Record::is_issued);
        let mut issued: Vec<String> = edge
            .issued
            .keys()
            .filter_map(|place| graph.places.get(*place))
            .map(ToString::to_string)
            .collect();
        issued.sort();
        Some(Refresh {
            endpoint: graph.endpoints.get(*endpoint)?.clone(),
            presented: graph.places.get(*place)?.to_string(),
            issued,
            count: edge.count,
            known: u64::try_from(edge.presented.iter().filter(is_known).count()).unwrap_or(0),
        })
    });
    let mut edges: Vec<Refresh> = edges.collect();
    edges.sort_by(|a, b| (&a.endpoint, &a.presented).cmp(&(&b.endpoint, &b.presented)));
    edges
}

/// The false friends, most frequent first.
fn friends(graph: &Graph) -> Vec<super::report::FalseFriend> {
    let mut friends: Vec<_> = graph.friends.values().cloned().collect();
    friends.sort_by_key(|friend| std::cmp::Reverse(friend.count));
    friends
}
