//! The cases whose instructions are counted: a small snapshot each, and one request over and over.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use anyhow::Context as _;
use clap::ValueEnum as _;
use countersign_engine::{
    answer::Answer,
    compile::compile,
    jwt::key::{KeyEntry, KeyRing, SecretRef, SigningKey},
    request::Request,
    serving::Serving,
    snapshot::Serve,
    test_config::TestConfig,
    transform::Template,
};
use harness::recording;
use http::{HeaderMap, HeaderValue, header};

use crate::http::{
    ask::{Ask, rewrite},
    stage,
};

/// Pairs of most snapshots.
const FEW: usize = 20;
/// Pairs among which something is looked up.
const MANY: usize = 2000;
/// The host of all pairs; a miss asks it for something else.
const HOST: &str = "api.example";
const SECOND: i64 = 1_000_000_000;
const BEGIN: i64 = 1_800_000_000 * SECOND;

/// What is done in an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// A recorded response without a token.
    Static,
    /// A response whose token was signed in this second already.
    Resigned,
    /// A response whose token is signed with HS256.
    Fresh,
    /// A request that nothing answers; what came near is not looked for.
    Miss,
    /// A POST of 1 KB of JSON that was sent before.
    Post,
    /// The same, written in another way each time.
    Rewritten,
    /// Other responses of a larger recording each time.
    Lookup,
}

impl Case {
    /// As it is called on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn ask(self) -> Ask {
        match self {
            Self::Static | Self::Lookup => Ask::Stub,
            Self::Resigned | Self::Fresh => Ask::Token("HS256".to_owned()),
            Self::Miss => Ask::Miss,
            Self::Post => Ask::Post,
            Self::Rewritten => Ask::Rewritten,
        }
    }

    /// Answers so many times.
    pub(crate) fn answer(self, iterations: u32) -> anyhow::Result<()> {
        let recorded = if self == Self::Lookup { MANY } else { FEW };
        let serving = serving(self, recorded)?;
        let ask = self.ask();
        let targets: Vec<(String, String)> = (0..recorded)
            .map(|nth| {
                let target = ask.target(nth);
                let (path, query) = target.split_once('?').unwrap_or((&target, ""));
                (path.to_owned(), query.to_owned())
            })
            .collect();
        let mut body = ask.body(7).unwrap_or_default();
        let headers = headers(&ask);
        for turn in 0..iterations {
            let nth = if self == Self::Lookup { usize::try_from(turn)? * 7 % recorded } else { 7 };
            let (path, query) = targets.get(nth).context("a target")?;
            if self == Self::Rewritten {
                rewrite(&mut body, u64::from(turn));
            }
            let request = Request {
                method: if body.is_empty() { "GET" } else { "POST" },
                host: HOST,
                path,
                query,
                headers: &headers,
                body: &body,
                ..Request::default()
            };
            let later = if self == Self::Fresh { i64::from(turn) } else { 0 };
            let answer = black_box(&serving).answer(black_box(&request), BEGIN + later * SECOND);
            let expected = match &answer {
                Answer::Hit(hit) => self != Self::Miss && hit.unsigned == 0,
                Answer::Miss => self == Self::Miss,
            };
            anyhow::ensure!(expected, "another answer than expected");
            black_box(answer);
        }
        Ok(())
    }
}

fn headers(ask: &Ask) -> HeaderMap {
    let kind = HeaderValue::from_static(ask.content_type());
    let host = HeaderValue::from_static(HOST);
    HeaderMap::from_iter([(header::HOST, host), (header::CONTENT_TYPE, kind)])
}

fn serving(case: Case, recorded: usize) -> anyhow::Result<Serving> {
    let dir = stage::temporary()?;
    let file = dir.path().join("recording.jsonl");
    let mut lines = Vec::new();
    for ask in [Ask::Stub, Ask::Token("HS256".to_owned()), Ask::Post] {
        ask.record(if ask.has_body() == case.ask().has_body() { recorded } else { 1 }, &mut lines)?;
    }
    std::fs::write(&file, &lines)?;
    let mut recording = recording::read_file(&file);
    anyhow::ensure!(recording.refused.is_empty(), "{:?}", recording.refused);
    for (ordinal, pair) in (0..).zip(&mut recording.pairs) {
        pair.ordinal = ordinal;
    }
    let (template, _) = Template::parse(stage::template().to_string().as_bytes());
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes());
    let config = config.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let compiled = compile(recording.pairs, &template, &config, Serve::Out).0;
    let secret = SecretRef { secret: "bench".into(), key: "hs256".into() };
    let entry = KeyEntry {
        key: Some(Arc::new(SigningKey::parse(&[7; 64])?)),
        problem: None,
        generation: 1,
        text: None,
        beside: Vec::new(),
    };
    Ok(Serving::new(Arc::new(compiled), &KeyRing::new(1, BTreeMap::from([(secret, entry)]))))
}
