//! The rows of the table of HTTP: who is compared with whom, asked for what, and what is to hold.

use anyhow::Context as _;

use super::{
    Plan, Results,
    ask::{ALGS, Ask},
    contest::{Effort, Goal, Row, Verdict},
    keys,
    load::{self, Speak},
    stage::{Sample, Stage},
};
use crate::{pairs, server::Server};

/// Requests that are told apart by their body.
const POSTS: usize = 1000;
/// Calls of gRPC.
const CALLS: usize = 1000;
/// Streams of each connection of HTTP/2; connections are fewer by as much.
const STREAMS: usize = 8;
/// Tokens of each algorithm for P3, more than are served in a second, so that each was signed in another second the last time. They live
/// too short to be given out in two seconds.
const FRESH: [(&str, usize); 4] =
    [("RS256", 20_000), ("ES256", 80_000), ("EdDSA", 80_000), ("HS256", 120_000)];

/// Plans of one kind of request.
struct Asking<'a> {
    effort: &'a Effort,
    speak: Speak,
    ask: Ask,
    targets: usize,
    length: (usize, usize),
}

impl Asking<'_> {
    fn of(&self, server: &Server, listener: &str) -> anyhow::Result<load::Plan> {
        let (seconds, warm_up) = self.effort.times();
        let connections = self.effort.connections;
        let streams = if self.speak == Speak::Http2 { STREAMS } else { 1 };
        Ok(load::Plan {
            server: server.address(listener)?,
            pid: server.id(),
            speak: self.speak,
            ask: self.ask.clone(),
            targets: self.targets,
            connections: connections.div_ceil(streams),
            streams,
            seconds,
            warm_up,
            status: 200,
            length: self.length,
            ca: None,
        })
    }
}

/// The servers of all rows whose recording is small.
#[derive(Debug)]
pub(crate) struct Shared {
    stage: Stage,
}

impl Shared {
    pub(crate) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let stage = Stage::start(
            |out| {
                for alg in ALGS {
                    Ask::Token(alg.to_owned()).record(plan.tokens, out)?;
                }
                Ask::Post.record(POSTS, out)?;
                Ask::Call.record(CALLS, out)
            },
            &[],
        )?;
        Ok(Self { stage })
    }

    fn token(&self, alg: &str, nth: usize, body: &[u8]) -> anyhow::Result<()> {
        keys::verify(alg, &std::fs::read(self.stage.key(alg))?, 3600, nth, body)
    }

    /// P1: re-signed responses, most of them from the cache of this second.
    pub(crate) fn resigned(&self, plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
        let goal = Goal { throughput: Some(0.85), p99: Some(1.5), cost: None };
        let row = |alg: &&str| {
            let name = format!("P1 {alg}");
            self.token_row(plan, name, alg, Speak::Http1, ("bare hyper", goal))
        };
        ALGS.iter().map(row).collect()
    }

    fn token_row(
        &self,
        plan: &Plan,
        name: String,
        alg: &str,
        speak: Speak,
        (against, goal): (&str, Goal),
    ) -> anyhow::Result<Verdict> {
        let ask = Ask::Token(alg.to_owned());
        let sample = self.stage.sample(&ask)?;
        let length = (sample.body.len(), sample.body.len());
        let bare = self.stage.bare(speak, &sample, |_| {})?;
        let asking = Asking { effort: &plan.effort, speak, ask, targets: plan.tokens, length };
        let trusting = |plan| load::Plan { ca: Some(self.stage.certificate()), ..plan };
        let row = Row {
            name,
            reference: (against, trusting(asking.of(&bare, "bare")?)),
            ours: trusting(asking.of(&self.stage.responder, "data")?),
            goal,
            verify: &|nth, body| self.token(alg, nth, body),
        };
        Ok(row.run(&plan.effort)?.0)
    }

    /// P4: the body is in the signature, whether it was sent before or never.
    pub(crate) fn posted(&self, plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
        let again = self.posted_as(plan, "P4 POST, 1 KB of JSON", &Ask::Post)?;
        Ok(vec![again, self.posted_as(plan, "P4 POST, never sent before", &Ask::Rewritten)?])
    }

    fn posted_as(&self, plan: &Plan, name: &str, ask: &Ask) -> anyhow::Result<Verdict> {
        let sample = self.stage.sample(ask)?;
        let bare = self.stage.bare(Speak::Http1, &sample, |config| config.reads = true)?;
        let length = (sample.body.len(), sample.body.len());
        let (effort, speak) = (&plan.effort, Speak::Http1);
        let asking = Asking { effort, speak, ask: ask.clone(), targets: POSTS, length };
        let row = Row {
            name: name.to_owned(),
            reference: ("bare hyper that reads the body", asking.of(&bare, "bare")?),
            ours: asking.of(&self.stage.responder, "data")?,
            goal: Goal { throughput: Some(0.6), ..Goal::default() },
            verify: &|nth, body| answers(ask, nth, body),
        };
        Ok(row.run(effort)?.0)
    }

    /// P5: HTTP/2, gRPC and TLS.
    pub(crate) fn protocols(&self, plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
        let goal = |throughput| Goal { throughput: Some(throughput), ..Goal::default() };
        let (h2, tls) = ("P5 HTTP/2".to_owned(), "P5 TLS".to_owned());
        let versus = ("bare hyper h2", goal(0.8));
        let h2 = self.token_row(plan, h2, "HS256", Speak::Http2, versus)?;
        let grpc = self.called(plan, goal(0.8))?;
        let versus = ("bare hyper + rustls", goal(0.85));
        let tls = self.token_row(plan, tls, "HS256", Speak::Tls, versus)?;
        Ok(vec![h2, grpc, tls])
    }

    fn called(&self, plan: &Plan, goal: Goal) -> anyhow::Result<Verdict> {
        let headers = vec![("content-type".to_owned(), "application/grpc".to_owned())];
        let sample = Sample { headers, body: Ask::answer_of_call(0) };
        let bare = self.stage.bare(Speak::Http2, &sample, |config| {
            config.reads = true;
            config.trailers = vec![("grpc-status".to_owned(), "0".to_owned())];
        })?;
        let length = (sample.body.len(), sample.body.len());
        let (effort, speak) = (&plan.effort, Speak::Http2);
        let asking = Asking { effort, speak, ask: Ask::Call, targets: CALLS, length };
        let row = Row {
            name: "P5 gRPC, unary".to_owned(),
            reference: ("bare hyper h2 with trailers", asking.of(&bare, "bare")?),
            ours: asking.of(&self.stage.responder, "data")?,
            goal,
            verify: &|nth, body| answers(&Ask::Call, nth, body),
        };
        Ok(row.run(effort)?.0)
    }
}

fn answers(ask: &Ask, nth: usize, body: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(ask.is_answer(nth, body), "it is the answer to something else");
    Ok(())
}

/// P2: snapshots of any size, and what a miss costs in the largest.
pub(crate) fn sizes(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let effort = &plan.effort;
    let start = |size: usize| Stage::start(|out| pairs::write(size, out).map(drop), &[]);
    let asking = |size: usize, ask: Ask| {
        let targets = pairs::orders(size);
        // Prices have one to four digits.
        Asking { effort, speak: Speak::Http1, ask, targets, length: (400, 1000) }
    };
    let (least, others) = plan.sizes.split_first().context("--sizes is empty")?;
    let small = start(*least)?;
    let reference = asking(*least, Ask::Order).of(&small.responder, "data")?;
    let against = format!("{least} pairs");
    let mut largest = None;
    for size in others {
        drop(largest.take());
        let stage = start(*size)?;
        let row = Row {
            name: format!("P2 {size} pairs"),
            reference: (&against, reference.clone()),
            ours: asking(*size, Ask::Order).of(&stage.responder, "data")?,
            goal: Goal { throughput: Some(0.9), ..Goal::default() },
            verify: &|nth, body| answers(&Ask::Order, nth, body),
        };
        let (verdict, outcome) = row.run(effort)?;
        results.verdicts.push(verdict);
        if results.by_size.is_empty() {
            let least_of_all = outcome.reference;
            results.by_size.push((*least, least_of_all.per_second, least_of_all.p99_ms));
        }
        results.by_size.push((*size, outcome.ours.per_second, outcome.ours.p99_ms));
        largest = Some((*size, stage));
    }
    let (size, stage) = largest.as_ref().map_or((*least, &small), |(size, stage)| (*size, stage));
    let misses = Asking { length: (0, 60_000), ..asking(size, Ask::Miss) };
    let row = Row {
        name: format!("P2 misses among {size} pairs"),
        reference: ("hits", asking(size, Ask::Order).of(&stage.responder, "data")?),
        ours: load::Plan { status: 404, ..misses.of(&stage.responder, "data")? },
        goal: Goal { cost: Some(2.0), ..Goal::default() },
        verify: &|nth, body| answers(&Ask::Miss, nth, body),
    };
    results.verdicts.push(row.run(effort)?.0);
    Ok(())
}

/// P3: every response has a token that was not given out in its second.
pub(crate) fn fresh(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    let stage = Stage::start(
        |out| {
            let mut all = FRESH.iter();
            all.try_for_each(|(alg, count)| Ask::Fresh((*alg).to_owned()).record(*count, out))
        },
        &[],
    )?;
    let mut verdicts = Vec::new();
    for (alg, targets) in FRESH {
        let ask = Ask::Fresh(alg.to_owned());
        let lifetime = ask.lifetime();
        let sample = stage.sample(&ask)?;
        let length = (sample.body.len(), sample.body.len());
        let key = stage.key(alg);
        let signs = |config: &mut super::bare::Config| {
            config.signs = Some((alg.to_owned(), key.clone()));
        };
        let bare = stage.bare(Speak::Http1, &sample, signs)?;
        let (effort, speak) = (&plan.effort, Speak::Http1);
        let asking = Asking { effort, speak, ask, targets, length };
        let row = Row {
            name: format!("P3 {alg}"),
            reference: ("bare hyper + aws-lc-rs", asking.of(&bare, "bare")?),
            ours: asking.of(&stage.responder, "data")?,
            goal: Goal { throughput: Some(0.9), ..Goal::default() },
            verify: &|nth, body| keys::verify(alg, &std::fs::read(&key)?, lifetime, nth, body),
        };
        let (verdict, outcome) = row.run(effort)?;
        let enough = f64::from(u32::try_from(targets)?) > outcome.ours.per_second;
        anyhow::ensure!(enough, "{targets} tokens of {alg} are too few: some came from the cache");
        verdicts.push(verdict);
    }
    Ok(verdicts)
}
