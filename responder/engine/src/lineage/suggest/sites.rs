//! Sites: where one chain is enough. Hosts that issue alike share one; a host stands in the filter only where another host answers the same
//! path with something else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Issue, Location};
use crate::lineage::{Analysis, place::Place};

/// One place of one endpoint.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) method: &'a str,
    pub(super) location: Location,
    /// Set when the host has to be looked at.
    pub(super) host: Option<&'a str>,
    pub(super) place: &'a Place,
    pub(super) issues: Vec<&'a Issue<'a>>,
}

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.issues.first().map(|issue| issue.endpoint);
        match endpoint {
            Some(endpoint) => write!(f, "{endpoint} {}", self.place),
            None => write!(f, "{} {}", self.method, self.place),
        }
    }
}

/// The sites of all issues, in a fixed order.
pub(super) fn of<'a>(issues: &'a [Issue<'a>], analysis: &'a Analysis) -> Vec<Site<'a>> {
    let endpoints = &analysis.graph.endpoints;
    let mut hosts: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for endpoint in endpoints.iter() {
        hosts.entry((&endpoint.method, &endpoint.route)).or_default().insert(&endpoint.host);
    }
    let mut together: BTreeMap<(&str, &str, &Place), BTreeMap<&str, Vec<&Issue<'_>>>> =
        BTreeMap::new();
    for issue in issues {
        let key = (issue.endpoint.method.as_str(), issue.endpoint.route.as_str(), issue.place);
        let by_host = together.entry(key).or_default();
        by_host.entry(&issue.endpoint.host).or_default().push(issue);
    }
    let mut sites = Vec::new();
    for ((method, route, place), by_host) in together {
        let everywhere = !endpoints.is_full()
            && hosts.get(&(method, route)).is_some_and(|all| all.len() == by_host.len());
        let kinds = |issues: &[&Issue<'_>]| {
            issues.iter().map(|issue| issue.kind.clone()).collect::<BTreeSet<_>>()
        };
        let mut each = by_host.values().map(|issues| kinds(issues));
        let first = each.next();
        let alike = each.all(|kinds| Some(&kinds) == first.as_ref());
        if everywhere && alike {
            let issues: Vec<&Issue<'_>> = by_host.into_values().flatten().collect();
            if let Some(location) = location(&issues, route) {
                sites.push(Site { method, location, host: None, place, issues });
            }
            continue;
        }
        for (host, issues) in by_host {
            if let Some(location) = location(&issues, route) {
                let host = Some(host).filter(|host| !host.is_empty());
                sites.push(Site { method, location, host, place, issues });
            }
        }
    }
    sites
}

/// What recognises the paths of all issues, which have the same route.
fn location(issues: &[&Issue<'_>], route: &str) -> Option<Location> {
    let mut locations: Vec<&Location> = issues.iter().map(|issue| &issue.location).collect();
    locations.sort();
    locations.dedup();
    if let [only] = locations.as_slice() {
        return Some((*only).clone());
    }
    let first = issues.first()?;
    let query = locations.iter().any(|location| match location {
        Location::Is(path) => path.contains('?'),
        Location::Matches(pattern) => pattern.ends_with(")?$"),
    });
    debug_assert_eq!(first.endpoint.route, route);
    Some(Location::Matches(first.endpoint.pattern(query)))
}
