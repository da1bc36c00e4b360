//! P6: what a snapshot takes in memory, and what a connection takes that does nothing.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    Plan,
    ask::{ALGS, Ask},
    contest::{self, Verdict},
    load::{self, Speak},
    stage::{Stage, responder},
};
use crate::{
    pairs,
    server::{self, Place},
};

/// How much of what was recorded a snapshot may take, and how much more for a pair.
const OF_RECORDED: f64 = 1.3;
const OF_PAIR: f64 = 150.0;
/// How much a connection may take, in bytes.
const OF_CONNECTION: f64 = 10.0 * 1024.0;
/// Connections that are made at a time.
const AT_ONCE: usize = 100;

/// Measures and prints.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Vec<Verdict>> {
    Ok(vec![snapshot(plan)?, connections(plan)?])
}

fn snapshot(plan: &Plan) -> anyhow::Result<Verdict> {
    let count = plan.pairs;
    let mut recorded = 0;
    let stage = Stage::start(
        |out| {
            recorded = pairs::write(count, out)?;
            Ok(())
        },
        &[],
    )?;
    let pid = stage.responder.id();
    let empty = {
        let cache = stage.dir.path().join("empty").to_string_lossy().into_owned();
        let idle = responder(stage.dir.path(), Place::Measured, None, &["--cache-dir", &cache])?;
        server::rss(idle.id())?
    };
    let (loaded, peak) = (server::rss(pid)?, server::peak(pid)?);
    let (seconds, warm_up) = plan.effort.times();
    contest::load(&load::Plan {
        server: stage.data()?,
        pid,
        speak: Speak::Http1,
        ask: Ask::Order,
        targets: pairs::orders(count),
        connections: plan.effort.connections,
        streams: 1,
        seconds,
        warm_up,
        status: 200,
        length: (400, 1000),
        ca: None,
    })?;
    let used = server::rss(pid)?;
    let (recorded, pairs) =
        (f64::from(u32::try_from(recorded / 1024)?) * 1024.0, f64::from(u32::try_from(count)?));
    let allowed = OF_RECORDED * recorded + OF_PAIR * pairs;
    let bytes = f64::from(used) * 1024.0;
    println!(
        "| pairs | recorded responses MiB | RSS when empty MiB | once loaded | at most until then | after traffic | bytes a pair beside the recorded | allowed MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {count} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} |",
        recorded / 1048576.0,
        f64::from(empty) / 1024.0,
        f64::from(loaded) / 1024.0,
        f64::from(peak) / 1024.0,
        bytes / 1048576.0,
        (bytes - recorded) / pairs,
        allowed / 1048576.0,
    );
    Ok(Verdict {
        row: format!("P6 memory of {count} pairs"),
        goal: format!("RSS ≤ {OF_RECORDED} × recorded response bytes + {OF_PAIR} a pair"),
        measured: format!("{:.2} × of what is allowed", bytes / allowed),
        passed: Some(bytes <= allowed),
    })
}

fn connections(plan: &Plan) -> anyhow::Result<Verdict> {
    let most = (plan.idle + 100).to_string();
    let ask = Ask::Token(ALGS[3].to_owned());
    let flags = ["--max-connections", &most, "--max-connections-per-source", &most];
    let stage = Stage::start(|out| ask.record(100, out), &flags)?;
    let mut command = server::pinned(server::LOAD_CORE, server::own()?);
    let target = (stage.data()?.to_string(), stage.responder.id().to_string());
    let out = command.args(["idle", &target.0, &target.1, &plan.idle.to_string()]).output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "idle connections: {told}");
    let each: f64 = String::from_utf8(out.stdout)?.trim().parse()?;
    println!(
        "| idle connections | RSS for each, bytes |\n|---|---|\n| {} | {each:.0} |",
        plan.idle
    );
    Ok(Verdict {
        row: format!("P6 {} idle connections", plan.idle),
        goal: "≤ 10 KB each".to_owned(),
        measured: format!("{:.1} KB", each / 1024.0),
        passed: Some(each <= OF_CONNECTION),
    })
}

/// Opens connections, asks once on each, and tells how much memory of the server each takes, in bytes.
pub(crate) fn idle(address: SocketAddr, pid: u32, count: usize) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // What the first connections need for good is not a connection's.
        let mut open = several(address, AT_ONCE).await?;
        let before = server::rss(pid)?;
        let first = open.len();
        while open.len() < first + count {
            let more = AT_ONCE.min(first + count - open.len());
            open.extend(several(address, more).await?);
        }
        let used = server::rss(pid)?.saturating_sub(before);
        Ok(f64::from(used) * 1024.0 / f64::from(u32::try_from(count)?))
    })
}

async fn several(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut made = JoinSet::new();
    for nth in 0..count {
        made.spawn(async move {
            let mut request = Vec::new();
            Ask::Token(ALGS[3].to_owned()).write(nth % 100, &mut request)?;
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&request).await?;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await?;
            anyhow::ensure!(start.ends_with(b"200"), "{}", String::from_utf8_lossy(&start));
            anyhow::Ok(stream)
        });
    }
    let mut open = Vec::new();
    while let Some(stream) = made.join_next().await {
        open.push(stream.context("a connection")??);
    }
    Ok(open)
}
