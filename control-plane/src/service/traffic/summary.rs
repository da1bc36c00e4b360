//! Counts of a snapshot, kept by its manifest.

use std::{collections::HashMap, hash::Hash};

use countersign_engine::{
    lineage::{Endpoint, endpoint},
    snapshot::{RrPair, wire::timestamp},
};
use countersign_proto::control::v1::{
    EndpointCount, SummarizeTrafficRequest, SummarizeTrafficResponse, TrafficCount,
};

use super::Traffic;
use crate::{
    service::{Problem, lineage::each_chunk, name::Name, snapshot},
    store::Kind,
};

/// So many endpoints and hosts are told apart; the rest is counted together.
const APART: usize = 5_000;
/// So many are told.
const TOLD: usize = 500;

impl Traffic {
    pub(super) async fn summarize(
        &self,
        request: SummarizeTrafficRequest,
    ) -> Result<SummarizeTrafficResponse, Problem> {
        let name = Name::parse(Kind::Snapshot, "name", &request.name)?;
        let (_, digest) = snapshot::ready(&self.plane, &name).await?;
        if let Some(known) = self.summaries.get(&digest) {
            return Ok((*known).clone());
        }
        let manifest = self.manifest(digest).await?;
        let _turn = self.plane.heavy(&name.project).await?;
        let counts = each_chunk(&self.plane, &manifest, Counts::default(), Counts::push).await?;
        Ok((*self.summaries.keep(digest, counts.told())).clone())
    }
}

#[derive(Debug, Default)]
struct Counts {
    pairs: u64,
    hosts: HashMap<String, u64>,
    methods: HashMap<String, u64>,
    statuses: HashMap<u16, u64>,
    /// How many pairs, and how many of them failed.
    endpoints: HashMap<Endpoint, (u64, u64)>,
    span: Option<(i64, i64)>,
}

impl Counts {
    fn push(&mut self, pair: &RrPair) {
        let endpoint = endpoint(pair);
        self.pairs += 1;
        count(&mut self.hosts, endpoint.host.clone(), |count| *count += 1);
        count(&mut self.methods, endpoint.method.clone(), |count| *count += 1);
        count(&mut self.statuses, pair.response.status, |count| *count += 1);
        let failed = u64::from(pair.response.status >= 400);
        count(&mut self.endpoints, endpoint, |(pairs, failures)| {
            *pairs += 1;
            *failures += failed;
        });
        if let Some(ts) = pair.ts {
            let (first, last) = self.span.unwrap_or((ts, ts));
            self.span = Some((first.min(ts), last.max(ts)));
        }
    }

    fn told(self) -> SummarizeTrafficResponse {
        let mut endpoints: Vec<(Endpoint, (u64, u64))> = self.endpoints.into_iter().collect();
        endpoints.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
        endpoints.truncate(TOLD);
        let endpoints: Vec<EndpointCount> = endpoints.into_iter().map(endpoint_count).collect();
        let listed: u64 = endpoints.iter().map(|endpoint| endpoint.count).sum();
        SummarizeTrafficResponse {
            pair_count: self.pairs,
            hosts: sorted(self.hosts),
            methods: sorted(self.methods),
            statuses: sorted(self.statuses),
            endpoints,
            endpoints_left_out: self.pairs.saturating_sub(listed),
            first: self.span.map(|span| timestamp(span.0)),
            last: self.span.map(|span| timestamp(span.1)),
        }
    }
}

fn count<K: Eq + Hash, V: Default>(counts: &mut HashMap<K, V>, key: K, add: impl Fn(&mut V)) {
    if let Some(known) = counts.get_mut(&key) {
        add(known);
    } else if counts.len() < APART {
        add(counts.entry(key).or_default());
    }
}

fn sorted<K: ToString>(counts: HashMap<K, u64>) -> Vec<TrafficCount> {
    let counts = counts.into_iter();
    let mut counts: Vec<TrafficCount> =
        counts.map(|(value, count)| TrafficCount { value: value.to_string(), count }).collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    counts.truncate(TOLD);
    counts
}

fn endpoint_count((endpoint, (count, failures)): (Endpoint, (u64, u64))) -> EndpointCount {
    EndpointCount {
        method: endpoint.method,
        host: endpoint.host,
        route: endpoint.route,
        count,
        failures,
    }
}
