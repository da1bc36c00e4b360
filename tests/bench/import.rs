//! Pairs imported per second, end to end: from a file to a committed snapshot of a real control plane, and the memory that it took.

use std::{
    fs::{self, File},
    io::BufWriter,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use harness::binaries;

use crate::{
    http::{contest::Verdict, stage::temporary},
    pairs,
    server::{Place, Server, peak},
};

/// Pairs that are imported per second.
const GOAL: f64 = 50_000.0;

/// Imports `count` generated pairs.
pub(crate) fn run(count: usize) -> anyhow::Result<Verdict> {
    let dir = temporary()?;
    let recording = dir.path().join("recording.jsonl");
    pairs::write(count, &mut BufWriter::with_capacity(1 << 20, File::create(&recording)?))?;
    // What is still to be written of the recording is not the import's to wait for.
    File::open(&recording)?.sync_all()?;
    let bytes = fs::metadata(&recording)?.len();
    let plane = Server::start(
        Place::Anywhere,
        &binaries::path("countersign-control-plane"),
        ["--listen", "127.0.0.1:0", "--data-dir", &dir.path().join("data").to_string_lossy()],
        &["grpc"],
    )?;
    let begin = Instant::now();
    let mut command = Command::new(binaries::path("countersign"));
    command.args(["--server", &format!("http://{}", plane.address("grpc")?), "snapshot", "import"]);
    command.arg(&recording).args(["--id", "bench"]).stdout(Stdio::null());
    let mut cli = command.spawn()?;
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let cli_peak = clock.block_on(watch(&mut cli))?;
    let seconds = begin.elapsed().as_secs_f64();
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "figures to print")]
    let (count_f, mib) = (count as f64, bytes as f64 / 1048576.0);
    println!(
        "| pairs | MiB | seconds | pairs/s | MiB/s | control plane peak RSS | command peak RSS |"
    );
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {count} | {mib:.0} | {seconds:.1} | {:.0} | {:.0} | {} MiB | {} MiB |",
        count_f / seconds,
        mib / seconds,
        peak(plane.id())? / 1024,
        cli_peak / 1024,
    );
    let per_second = count_f / seconds;
    Ok(Verdict {
        row: format!("P11 import of {count} pairs"),
        goal: format!("≥ {GOAL} pairs/s"),
        measured: format!("{per_second:.0} pairs/s"),
        passed: Some(per_second >= GOAL),
    })
}

/// Waits for a process to end well; returns its peak memory as far as it was seen.
async fn watch(child: &mut Child) -> anyhow::Result<u32> {
    let mut seen = 0;
    // Nobody can be asked about a process that has ended, so that it is asked about all along.
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        look.tick().await;
        if let Some(status) = child.try_wait()? {
            anyhow::ensure!(status.success(), "the import failed: {status}");
            return Ok(seen);
        }
        seen = peak(child.id()).unwrap_or(seen);
    }
}
