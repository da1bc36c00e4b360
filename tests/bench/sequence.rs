//! Turns that responders share: what they cost beside turns that each keeps alone, and whether they stay in order while responders are killed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use harness::{
    balancer::Balancer,
    client::Client,
    process::Process,
    redis::Redis,
    register::check,
    turns::{Load, World, agreed, breaks, ids, turn},
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

const NAMES: [&str; 3] = ["one", "two", "three"];
/// The lists that are asked for under churn, each by so many clients.
const LISTS: usize = 6;
const CLIENTS: usize = 2;
const PACE: Duration = Duration::from_millis(20);
/// Calls that answer within [`PACE`], and somewhat more.
const CALLS_A_SECOND: usize = 60;

/// What is to be done.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// How often each kind is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Clients of each responder.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How often a responder is killed under load; 0 leaves that out.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// The seconds between two kills.
    #[arg(long, default_value_t = 6)]
    every: u64,
}

/// Three responders that serve a list in one way.
struct Fleet {
    name: &'static str,
    servers: Vec<SocketAddr>,
    rates: Vec<f64>,
    _world: World,
    _responders: [Process; 3],
}

/// Does it and prints what came of it.
pub(crate) fn run(plan: Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if plan.rounds > 0 {
            throughput(plan).await?;
        }
        if plan.kills > 0 {
            churn(plan).await?;
        }
        Ok(())
    })
}

async fn throughput(plan: Plan) -> anyhow::Result<()> {
    let redis = Redis::start().await;
    let mut fleets = vec![
        Fleet::start("replica", &json!({"scope": "replica"}), None).await,
        Fleet::start("global, strict", &json!({"scope": "global"}), None).await,
        Fleet::start("global, cycles", &json!({"scope": "global", "order": "cycles"}), None).await,
    ];
    if let Some(redis) = &redis {
        let url = redis.url();
        fleets.push(Fleet::start("global, Redis", &json!({"scope": "global"}), Some(&url)).await);
    }
    for _ in 0..plan.rounds {
        // All kinds in turn, so that what disturbs the machine disturbs all of them.
        for fleet in &mut fleets {
            let rate = rate(&fleet.servers, plan).await?;
            fleet.rates.push(rate);
        }
    }
    let median = |fleet: &Fleet| {
        let mut rates = fleet.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    };
    let alone = fleets.first().map(median).unwrap_or_default();
    println!("| turns | answers per second, median of {} | of `replica` |", plan.rounds);
    println!("|---|---|---|");
    for fleet in &fleets {
        let rate = median(fleet);
        println!("| {} | {rate:.0} | {:.0} % |", fleet.name, 100.0 * rate / alone);
    }
    Ok(())
}

impl Fleet {
    async fn start(name: &'static str, sequence: &Value, redis: Option<&str>) -> Self {
        let world = World::new((1, 3), sequence).await;
        let mut responders = NAMES.map(|name| match redis {
            Some(url) => world.responder_with(name, "127.0.0.1:0", &["--sequence-redis", url]),
            None => world.responder(name, "127.0.0.1:0"),
        });
        let mut servers = Vec::new();
        for responder in &mut responders {
            servers.push(responder.address("data").await);
        }
        world.start();
        if sequence["scope"] == "global" && redis.is_none() {
            agreed(&mut responders, &["one", "three", "two"]).await;
        }
        Self { name, servers, rates: Vec::new(), _world: world, _responders: responders }
    }
}

/// Answers per second of all servers together.
async fn rate(servers: &[SocketAddr], plan: Plan) -> anyhow::Result<f64> {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for server in servers.iter().flat_map(|server| std::iter::repeat_n(*server, plan.clients)) {
        let (over, done) = (Arc::clone(&over), Arc::clone(&done));
        clients.spawn(async move {
            let client = Client::new(server);
            while !over.load(Ordering::Relaxed) {
                turn(&client, 0).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
    }
    let mut seconds = interval(Duration::from_secs(plan.seconds.max(1)));
    seconds.tick().await;
    let (begin, before) = (Instant::now(), done.load(Ordering::Relaxed));
    seconds.tick().await;
    let counted = u32::try_from(done.load(Ordering::Relaxed) - before)?;
    let rate = f64::from(counted) / begin.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended?.map_err(anyhow::Error::msg)?;
    }
    Ok(rate)
}

async fn churn(plan: Plan) -> anyhow::Result<()> {
    let calls = usize::try_from(plan.every)? * CALLS_A_SECOND * CLIENTS * (plan.kills + 2);
    let world = World::new((LISTS, calls), &json!({"scope": "global"})).await;
    let mut all = NAMES.map(|name| world.responder(name, "127.0.0.1:0"));
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    let balancer = Balancer::start(&servers).await;
    world.start();
    agreed(&mut all, &["one", "three", "two"]).await;
    let load = Load::begin(&world, balancer.addr(), CLIENTS, PACE);
    let mut ticks = interval(Duration::from_secs(plan.every.max(1)));
    ticks.tick().await;
    let mut logs = Vec::new();
    for kill in 0..plan.kills {
        ticks.tick().await;
        let nth = kill % NAMES.len();
        let (Some(responder), Some(name), Some(server)) =
            (all.get_mut(nth), NAMES.get(nth), servers.get(nth))
        else {
            continue;
        };
        responder.kill();
        let next = world.responder(name, &server.to_string());
        logs.push(std::mem::replace(responder, next).finish());
        agreed(&mut all, &["one", "three", "two"]).await;
    }
    let lists = load.end().await;
    let [first, ..] = &mut all;
    let ids = ids(first).await;
    logs.extend(all.map(Process::finish));
    let breaks = breaks(&logs);
    println!("| list | calls | in order | breaks | alone | turns missing | explained | verdict |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut wrong = 0;
    for (calls, id) in lists.iter().zip(ids) {
        match check(calls, breaks.get(&id).map_or(&[][..], Vec::as_slice)) {
            Ok(found) => println!(
                "| {id} | {} | {} | {} | {} | {} | {} | linearizable |",
                calls.len(),
                found.ordered,
                found.breaks,
                found.alone,
                found.missing,
                found.may_be_missing
            ),
            Err(why) => {
                wrong += 1;
                println!("| {id} | {} | | | | | | {why} |", calls.len());
            }
        }
    }
    (wrong == 0).then_some(()).context("turns were not in order")
}
