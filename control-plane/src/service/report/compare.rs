//! Two runs side by side.

use std::cmp::Reverse;

use countersign_proto::control::v1::{
    EndpointChange, EndpointReport, NearMissGroup, ReplayReport, ReportComparison,
};

/// Compares a run with an earlier one.
pub(super) fn compare(base: ReplayReport, run: ReplayReport) -> ReportComparison {
    let mut changes: Vec<EndpointChange> = run
        .endpoints
        .iter()
        .map(|own| {
            let before = base.endpoints.iter().find(|before| is_same(before, own));
            EndpointChange { base: before.cloned(), run: Some(own.clone()) }
        })
        .collect();
    let gone = base.endpoints.iter().filter(|it| !run.endpoints.iter().any(|own| is_same(it, own)));
    changes.extend(gone.map(|it| EndpointChange { base: Some(it.clone()), run: None }));
    changes.sort_by_key(|change| Reverse((grown(change), requests(change))));
    let only = |of: &[NearMissGroup], not: &[NearMissGroup]| -> Vec<NearMissGroup> {
        of.iter().filter(|it| !not.iter().any(|other| other.id == it.id)).cloned().collect()
    };
    ReportComparison {
        endpoints: changes,
        new_near_misses: only(&run.near_misses, &base.near_misses),
        gone_near_misses: only(&base.near_misses, &run.near_misses),
        base: Some(ReplayReport { series: Vec::new(), ..base }),
        run: Some(ReplayReport { series: Vec::new(), ..run }),
    }
}

fn is_same(a: &EndpointReport, b: &EndpointReport) -> bool {
    (&a.method, &a.path, a.other) == (&b.method, &b.path, b.other)
}

/// By how many misses it has grown.
fn grown(change: &EndpointChange) -> i128 {
    let misses = |it: &Option<EndpointReport>| it.as_ref().map_or(0, |it| i128::from(it.misses));
    misses(&change.run) - misses(&change.base)
}

fn requests(change: &EndpointChange) -> u64 {
    let of = |it: &Option<EndpointReport>| {
        it.as_ref().map_or(0, |it| it.hits.saturating_add(it.misses).saturating_add(it.passthrough))
    };
    of(&change.run).max(of(&change.base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str, hits: u64, misses: u64) -> EndpointReport {
        EndpointReport {
            method: "GET".into(),
            path: path.into(),
            hits,
            misses,
            ..EndpointReport::default()
        }
    }

    #[test]
    fn what_misses_more_than_before_comes_first_and_nothing_is_left_out() {
        let group = |id: &str| NearMissGroup { id: id.into(), ..NearMissGroup::default() };
        let base = ReplayReport {
            endpoints: vec![endpoint("/a", 9, 9), endpoint("/gone", 1, 0)],
            near_misses: vec![group("old"), group("both")],
            ..ReplayReport::default()
        };
        let run = ReplayReport {
            endpoints: vec![endpoint("/a", 90, 1), endpoint("/new", 5, 2)],
            near_misses: vec![group("both"), group("new")],
            ..ReplayReport::default()
        };
        let compared = compare(base, run);
        let paths: Vec<_> = compared
            .endpoints
            .iter()
            .map(|it| {
                let path = |it: &Option<EndpointReport>| it.as_ref().map(|it| it.path.clone());
                (path(&it.base), path(&it.run))
            })
            .collect();
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(paths, [(None, some("/new")), (some("/gone"), None), (some("/a"), some("/a"))]);
        assert_eq!(compared.new_near_misses, [group("new")]);
        assert_eq!(compared.gone_near_misses, [group("old")]);
    }
}
