//! A closed loop of keep-alive connections, as lean as can be, so that the server is what is measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) path: String,
    pub(crate) targets: usize,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
}

impl Measured {
    pub(crate) fn to_line(self) -> String {
        format!("{} {}", self.per_second, self.p99_ms)
    }

    pub(crate) fn from_line(line: &str) -> anyhow::Result<Self> {
        let (per_second, p99_ms) = line.trim().split_once(' ').context("two numbers")?;
        Ok(Self { per_second: per_second.parse()?, p99_ms: p99_ms.parse()? })
    }
}

pub(crate) fn run(plan: &Plan) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // A second of warm-up is not counted.
        round(plan, Duration::from_secs(1)).await?;
        let begin = Instant::now();
        let mut latencies = round(plan, plan.duration).await?;
        let seconds = begin.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
        let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
        Ok(Measured { per_second: f64::from(count) / seconds, p99_ms: p99.as_secs_f64() * 1000.0 })
    })
}

async fn round(plan: &Plan, duration: Duration) -> anyhow::Result<Vec<Duration>> {
    let until = Instant::now() + duration;
    let mut connections = JoinSet::new();
    for nth in 0..plan.connections {
        connections.spawn(connection(plan.clone(), nth, until));
    }
    let mut all = Vec::new();
    while let Some(latencies) = connections.join_next().await {
        all.extend(latencies??);
    }
    Ok(all)
}

async fn connection(plan: Plan, nth: usize, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(plan.server).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut latencies = Vec::with_capacity(100_000);
    let mut user = nth;
    while Instant::now() < until {
        user = (user + plan.connections) % plan.targets.max(1);
        let request = format!("GET {}?u={user} HTTP/1.1\r\nhost: api.example\r\n\r\n", plan.path);
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        read_response(&mut stream, &mut buffer).await?;
        latencies.push(begin.elapsed());
    }
    Ok(latencies)
}

/// Reads one response by its content length; anything but 200 is a failure of the bench.
async fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    let mut whole = None;
    loop {
        let read = stream
            .read(buffer.get_mut(filled..).context("the response is larger than the buffer")?)
            .await?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        filled += read;
        let so_far = buffer.get(..filled).unwrap_or_default();
        if whole.is_none()
            && let Some(end) = so_far.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(so_far.get(..end).unwrap_or_default())?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head
                .lines()
                .find_map(|line| {
                    line.split_once(':')
                        .filter(|field| field.0.eq_ignore_ascii_case("content-length"))
                })
                .context("a content-length")?;
            whole = Some(end + 4 + length.1.trim().parse::<usize>()?);
        }
        if whole == Some(filled) {
            return Ok(());
        }
    }
}
