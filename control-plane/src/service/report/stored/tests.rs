use proptest::prelude::*;

use super::*;

fn counted(sequence: u64, hits: u64) -> RunTally {
    let histogram = proto::Histogram { steps: vec![7], counts: vec![hits], sum: 7 * hits, max: 7 };
    let tally = Tally { hits, latency: Some(histogram.clone()), ..Tally::default() };
    RunTally {
        sequence,
        start_nanos: 5,
        totals: Some(tally.clone()),
        endpoints: vec![EndpointTally {
            method: "GET".into(),
            path: "/a".into(),
            tally: Some(tally),
            statuses: vec![200],
            status_counts: vec![hits],
            ..EndpointTally::default()
        }],
        steps: vec![StepTally {
            start_seconds: 5 * i64::try_from(sequence).unwrap(),
            hits: 1,
            latency: Some(histogram),
            ..StepTally::default()
        }],
        ..RunTally::default()
    }
}

fn hits(contribution: &Contribution) -> u64 {
    contribution.clone().sum().0.totals.unwrap().hits
}

#[test]
fn messages_that_come_late_or_twice_change_nothing() {
    let mut contribution = Contribution::default();
    assert!(contribution.take("one", counted(1, 10)));
    assert!(contribution.take("one", counted(3, 30)));
    let before = hits(&contribution);
    assert!(!contribution.take("one", counted(3, 30)));
    assert!(!contribution.take("one", counted(2, 20)));
    assert_eq!((before, hits(&contribution)), (30, 30));
    let (sum, processes) = contribution.sum();
    assert_eq!((processes, sum.steps.len()), (1, 3), "but their steps are kept");
    assert_eq!(sum.endpoints[0].status_counts, [30]);
}

#[test]
fn processes_add_up_however_many_there_were() {
    let mut contribution = Contribution::default();
    for nth in 0..100_u64 {
        contribution.take(&format!("process {nth}"), counted(1, 1));
    }
    let stored = contribution.encode_to_vec();
    let mut contribution = Contribution::decode(&stored).unwrap();
    assert_eq!(hits(&contribution), 100);
    assert!(!contribution.take("process 90", counted(9, 9)), "it was added up already");
    assert_eq!(hits(&contribution), 100);
    let size = contribution.encoded_len();
    assert!(size < 20_000, "{size}");
    assert_eq!(contribution.sum().1, 100);
}

#[test]
fn what_a_message_may_hold_is_bounded() {
    let endpoint = |nth: usize| EndpointTally {
        path: format!("/{nth}/{}", "ä".repeat(1000)),
        tally: Some(Tally { hits: 1, ..Tally::default() }),
        ..EndpointTally::default()
    };
    let mut sent = counted(1, 1);
    sent.endpoints = (0..1000).map(endpoint).collect();
    sent.steps = (0..1000)
        .map(|start_seconds| StepTally { start_seconds, ..StepTally::default() })
        .collect();
    sent.totals.as_mut().unwrap().latency = Some(proto::Histogram {
        steps: (0..100_000).collect(),
        counts: vec![1; 100_000],
        ..proto::Histogram::default()
    });
    let mut contribution = Contribution::default();
    contribution.take("one", sent);
    assert!(contribution.encoded_len() < 300_000, "{}", contribution.encoded_len());
    let (sum, _) = contribution.sum();
    assert_eq!((sum.endpoints.len(), sum.steps.len()), (ENDPOINTS, STEPS));
    assert!(sum.endpoints.iter().all(|it| it.path.len() <= TEXT));
}

#[test]
fn names_of_runs_are_in_order_and_apart_from_each_other() {
    let replay = "projects/p/replays/r";
    let all = RunName::all(replay);
    let name = |run| format!("{}a", RunName { replay, run }.prefix());
    for run in [0, 9, 10, u64::MAX] {
        assert_eq!(RunName::parse(&all, &name(run)), Some(run));
        assert!(name(run) < RunName { replay, run }.after());
    }
    assert!(RunName { replay, run: 9 }.after() < name(10));
    assert_eq!(RunName::parse(&all, "projects/p/replays/rr/runs/1/a"), None);
}

proptest! {
    #[test]
    fn the_order_of_messages_does_not_matter(mut order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(), again in 0..12_usize) {
        let messages: Vec<(String, RunTally)> = (0..12_u64)
            .map(|nth| (format!("p{}", nth % 3), counted(1 + nth / 3, 10 * (1 + nth / 3) + nth % 3)))
            .collect();
        order.push(again);
        let mut contribution = Contribution::default();
        for nth in order {
            let (process, counted) = messages[nth].clone();
            contribution.take(&process, counted);
        }
        prop_assert_eq!(hits(&contribution), 40 + 41 + 42);
    }
}
