//! R1 to R9, H16: memory, files, connections, processors, logs and labels are used up. Whoever was served before is served on, the admin listener answers,
//! and once there is room again everybody is served.

use std::{fs::OpenOptions, io::Read as _, os::unix::fs::PermissionsExt as _, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    raw::{Raw, responses, status},
    *,
};

/// A GET that leaves its connection open.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n\r\n")
}

/// Begins an upload and sends so many MiB of it, without an end.
async fn upload(world: &World, mebibytes: usize) -> Raw {
    let mut raw = world.connect().await;
    raw.send("POST /nothing HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for _ in 0..mebibytes {
        if !raw.send(&chunk).await {
            break;
        }
    }
    raw
}

impl World {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.responder.id()).unwrap()).unwrap()
    }

    /// How many of these connections the responder has closed.
    async fn closed(&self, all: &[Raw]) -> usize {
        let mut closed = 0;
        for raw in all {
            let mut byte = [0];
            let looked =
                tokio::time::timeout(Duration::from_millis(1), raw.0.peek(&mut byte)).await;
            closed += usize::from(matches!(looked, Ok(Ok(0) | Err(_))));
        }
        closed
    }
}

#[tokio::test]
async fn r01_work_is_refused_before_memory_is_used_up_and_taken_again_afterwards() {
    let mut setup = Setup::flags("--memory-limit-mib 300");
    setup.tolerated = "overloaded";
    let world = World::serve_with(Vec::new(), &setup).await;
    assert!(world.memory() < 150 * node::MIB, "{} KiB at rest", world.memory());
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut raw = world.connect().await;
        raw.send(get("/nothing")).await;
        drop(raw.until("}\n").await);
        idle.push(raw);
    }
    assert_eq!(world.closed(&idle).await, 0);
    let mut uploads = Vec::new();
    for _ in 0..40 {
        uploads.push(upload(&world, 9).await);
    }
    world.metric_is("countersign_memory_pressure", |level| level == 2).await;
    for raw in &mut idle {
        assert_eq!(raw.rest().await, "", "an idle connection is closed");
    }
    let told = world.exchange(get("/probe")).await;
    assert!(status(&told) == "503" && told.contains("\"overloaded\""), "{told}");
    assert!(told.contains("retry-after: 1") && told.contains("connection: close"), "{told}");
    let answer = Client::http2(world.data).get("/probe").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].as_str()),
        (503, Some("overloaded"))
    );
    assert_eq!(world.admin.get("/healthz").await.status, 200);
    assert!(world.responder.text().contains("memory is used up"), "{}", world.responder.text());
    drop(uploads);
    world.metric_is("countersign_memory_pressure", |level| level == 0).await;
    assert_eq!(world.client.get("/probe").await.status, 200);
    drop(world.end().await);
}

#[tokio::test]
async fn r02_files_are_kept_for_everything_but_connections() {
    let setup = Setup {
        before: ["prlimit", "--nofile=256:256"].map(str::to_owned).into(),
        ..Setup::flags("--detect-timeout 2m --max-connections-per-source 10000")
    };
    let world = World::serve_with(vec![Case::new("rotated", of_alg("HS256"), PROBE)], &setup).await;
    world.signed("rotated", PROBE).await;
    let mut all = Vec::new();
    for _ in 0..400 {
        all.push(world.connect().await);
    }
    world.metric_is("countersign_connections", |open| open == 128).await;
    // One in each accept loop has been accepted and waits for its place.
    assert!(world.files() <= 256 - 32, "{} files", world.files());
    // Keys are read, the control plane is heard and the admin listener answers.
    let secret = b"another secret, which is long enough for HS256";
    let before = world.secret("rotated", None).await["generation"].as_u64();
    replace(&world.keys().join("rotated"), secret);
    wait_until("the new key is read", || async {
        let known = world.secret("rotated", None).await;
        (known["generation"].as_u64() > before).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(Client::new(world.admin_at).get("/healthz").await.status, 200);
    }
    assert!(world.cli(&["replay", "status", "all"]).code() == 0);
    assert_eq!(world.metric("countersign_accept_errors_total").await, 0);
    drop(all);
    world.quiet().await;
    let told = world.exchange("GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&told), "200");
    world.signed("rotated", secret).await;
    let printed = world.end().await;
    assert!(printed.contains("the system allows so few open files"), "{printed}");
}

#[tokio::test]
async fn r03_one_source_cannot_take_the_places_of_all_others() {
    let setup =
        Setup::flags("--max-connections 300 --max-connections-per-source 200 --detect-timeout 2m");
    let world = World::serve_with(Vec::new(), &setup).await;
    let mut greedy = Vec::new();
    for _ in 0..500 {
        greedy.push(Raw::connect_from([127, 0, 0, 2], world.data).await.unwrap());
    }
    world.metric_is("countersign_connections_crowded_total", |closed| closed == 300).await;
    wait_until("they are closed", || async { (world.closed(&greedy).await == 300).then_some(()) })
        .await;
    // Others come in, each anew.
    for _ in 0..20 {
        let told =
            world.exchange("GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&told), "200");
    }
    drop(greedy);
    world.quiet().await;
    let mut again = Raw::connect_from([127, 0, 0, 2], world.data).await.unwrap();
    again.send("GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&again.rest().await), "200");
    drop(world.end().await);
}

#[tokio::test]
async fn r03_connections_that_are_idle_or_half_said_cost_little_and_a_storm_of_them_passes() {
    let setup = Setup::flags("--head-timeout 2m --detect-timeout 2m");
    let world = World::serve_with(Vec::new(), &setup).await;
    for _ in 0..5_000 {
        drop(world.connect().await);
    }
    world.quiet().await;
    let before = world.memory();
    let mut held = Vec::new();
    for nth in 0..2_000 {
        let mut raw = world.connect().await;
        if nth % 2 == 0 {
            raw.send("GET /probe HTTP/1.1\r\nHost: api.ex").await;
        }
        held.push(raw);
    }
    world.metric_is("countersign_connections", |open| open >= 2_000).await;
    let grown = world.memory().saturating_sub(before);
    // As promised: 3 KiB for an idle one and 16 KiB for half a head; and room for what the allocator keeps.
    assert!(grown < 1_000 * (3 + 16) + 16 * node::MIB, "{grown} KiB for 2,000");
    drop(held);
    world.quiet().await;
    drop(world.end().await);
}

#[tokio::test]
async fn r04_uploads_together_take_no_more_than_they_may() {
    let world = World::serve_with(Vec::new(), &Setup::flags("--max-body-memory-mib 16")).await;
    let before = world.forget_peak();
    // What is announced to be too large is refused before any of it is read.
    let mut announced = Vec::new();
    for _ in 0..200 {
        let mut raw = world.connect().await;
        raw.send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n").await;
        announced.push(raw);
    }
    for mut raw in announced {
        assert_eq!(status(&raw.rest().await), "413");
    }
    let mut uploads = Vec::new();
    for _ in 0..60 {
        uploads.push(upload(&world, 4).await);
    }
    let mut refused = 0;
    world.metric_is("countersign_requests_total{result=\"refused\"}", |all| all >= 250).await;
    for raw in &mut uploads {
        let mut byte = [0];
        let told = tokio::time::timeout(Duration::from_millis(50), raw.0.peek(&mut byte)).await;
        if told.is_ok() {
            let told = raw.rest().await;
            // A client that is still sending may meet the close before it reads why.
            assert!(told.is_empty() || told.contains("body_memory"), "{told}");
            refused += 1;
        }
    }
    assert!((50..60).contains(&refused), "{refused} of 60 were refused");
    let grown = world.peak().saturating_sub(before);
    assert!(grown < 120 * node::MIB, "{grown} KiB for 240 MiB");
    drop(uploads);
    world.quiet().await;
    // There is room again.
    let mut last = upload(&world, 4).await;
    last.send("0\r\n\r\n").await;
    assert!(last.until("}\n").await.contains("404"));
    drop(last);
    drop(world.end().await);
}

/// Has a process run for a tenth of the time only, as a quota of 0.1 processors does.
struct Throttled {
    pid: Pid,
    throttling: JoinHandle<()>,
}

impl Throttled {
    fn begin(pid: Pid) -> Self {
        let throttling = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            for nth in 0_u64.. {
                ticks.tick().await;
                let signal = if nth % 10 == 0 { Signal::CONT } else { Signal::STOP };
                kill_process(pid, signal).unwrap();
            }
        });
        Self { pid, throttling }
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        self.throttling.abort();
        // It may have ended.
        let _gone = kill_process(self.pid, Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r05_health_is_answered_with_a_tenth_of_a_processor_under_load() {
    let world = World::serve(Vec::new()).await;
    let load: Vec<JoinHandle<()>> = (0..8)
        .map(|_| {
            let client = Client::new(world.data);
            tokio::spawn(async move {
                loop {
                    drop(
                        client
                            .try_send(
                                http::Method::GET,
                                "/nothing",
                                Default::default(),
                                Default::default(),
                            )
                            .await,
                    );
                }
            })
        })
        .collect();
    let throttled = Throttled::begin(world.pid());
    for _ in 0..20 {
        // A kubelet asks on a new connection, and is patient for some seconds.
        let health = Client::new(world.admin_at);
        let answered = tokio::time::timeout(Duration::from_secs(10), health.get("/healthz")).await;
        assert_eq!(answered.unwrap().status, 200);
    }
    drop(throttled);
    load.iter().for_each(JoinHandle::abort);
    let threads = fs::read_dir(format!("/proc/{}/task", world.responder.id())).unwrap();
    let names = threads.map(|it| fs::read_to_string(it.unwrap().path().join("comm")).unwrap());
    assert!(names.into_iter().any(|name| name.trim() == "admin"), "it has a thread of its own");
    drop(world.end().await);
}

#[tokio::test]
async fn r06_a_log_that_nobody_reads_is_dropped_and_counted_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open, so that it can be written to; but nothing is read.
    let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let before =
        ["sh", "-c", "exec \"$@\" 2>\"$0\"", &pipe.to_string_lossy()].map(str::to_owned).into();
    let variables = vec![("RUST_LOG".to_owned(), "debug".to_owned())];
    let setup = Setup { before, variables, ..Setup::default() };
    let world = World::serve_with(Vec::new(), &setup).await;
    let asked = async {
        // Each tells why it ended.
        while world.metric("countersign_log_lines_dropped_total").await < 100 {
            for _ in 0..50 {
                drop(world.exchange("\0").await);
            }
        }
    };
    assert!(tokio::time::timeout(harness::DEADLINE, asked).await.is_ok(), "the pipe is not full");
    world.served(20).await;
    // Once somebody reads, it is told how much is missing.
    let read = std::thread::spawn(move || {
        let (mut all, mut piece) = (String::new(), vec![0; 64 << 10]);
        while !all.contains("log lines were dropped") {
            let read = reader.read(&mut piece).unwrap();
            all.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        (all, reader)
    });
    wait_until("what was dropped is told", || async {
        drop(world.exchange("\0").await);
        read.is_finished().then_some(())
    })
    .await;
    let (text, reader) = read.join().unwrap();
    assert!(text.contains("connection ended early"), "{text}");
    drop(world.end().await);
    drop(reader);
}

#[tokio::test]
async fn r07_no_load_makes_more_threads_than_there_may_be() {
    let world = World::serve(Vec::new()).await;
    let most =
        64 + 16 + 4 * u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let mut all = Vec::new();
    for nth in 0..400 {
        let mut raw = world.connect().await;
        raw.send(get(&format!("/nothing/{nth}")).repeat(5)).await;
        all.push(raw);
    }
    for raw in &mut all {
        raw.until("}\n").await;
        assert!(world.kernel("Threads") <= most, "{} threads", world.kernel("Threads"));
    }
    drop(all);
    drop(world.end().await);
}

#[test]
fn r07_a_system_that_allows_too_few_threads_is_told_at_the_start() {
    // The limit is one of a user, and none of root.
    if !rustix::process::geteuid().is_root() {
        harness::notice("the limit of threads can be tried by root only");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let binary = binaries::path("countersign-responder");
    assert!(fs::copy(binary, at("responder")).unwrap() > 0);
    fs::create_dir(at("secrets")).unwrap();
    let everybody = fs::Permissions::from_mode(0o777);
    for name in [".", "responder", "secrets"] {
        fs::set_permissions(at(name), everybody.clone()).unwrap();
    }
    // From the first thread that cannot be had to the last one.
    for most in [1, 3, 6, 8] {
        let out = Command::new("prlimit")
            .arg(format!("--nproc={most}"))
            .args(["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"])
            .args(["--inh-caps=-all", "--bounding-set=-all", &at("responder")])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--cache-dir", &at("cache"), "--secret-dir", &at("secrets")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{most}: {told}");
        assert!(told.contains("threads more") && told.contains("ulimit -u"), "{most}: {told}");
    }
}

#[tokio::test]
async fn r08_what_clients_say_makes_no_series_and_takes_no_memory() {
    let world = World::serve(Vec::new()).await;
    let series = async || {
        let text = world.admin.get("/metrics").await.body;
        String::from_utf8_lossy(&text).lines().filter(|line| !line.starts_with('#')).count()
    };
    let ask = async |from: usize, to: usize| {
        let mut raw = world.connect().await;
        for nth in from..to {
            let last = if nth + 1 == to { "Connection: close\r\n" } else { "" };
            let head = format!(
                "GET /n/{nth}?q={nth} HTTP/1.1\r\nHost: h{nth}.example\r\nX-{nth}: {nth}\r\n\
                 Authorization: Bearer t{nth}\r\n{last}\r\n"
            );
            raw.send(&head).await;
            if last.is_empty() {
                raw.until("}\n").await;
            }
        }
        let told = raw.rest().await;
        assert_eq!((responses(&told), status(&told)), (1, "404"), "{told}");
    };
    ask(0, 5_000).await;
    let (before, memory) = (series().await, world.memory());
    ask(5_000, 15_000).await;
    let after = series().await;
    assert!(before == after && after < 1_000, "{before} series became {after}");
    let grown = world.memory().saturating_sub(memory);
    assert!(grown < 32 * node::MIB, "{grown} KiB more");
    drop(world.end().await);
}

#[tokio::test]
async fn r10_connections_and_requests_of_a_while_leave_nothing_behind() {
    // What takes hours is `bench soak --minutes`; this is what shows within seconds.
    let world = World::serve(vec![Case::new("token", of_alg("HS256"), PROBE)]).await;
    let round = async || {
        for nth in 0..1_500 {
            let path = ["/probe", "/token", "/nothing"][nth % 3];
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(["200", "404"].contains(&status(&world.exchange(head).await)));
        }
        let client = Client::http2(world.data);
        for _ in 0..500 {
            assert_eq!(client.get("/token").await.status, 200);
        }
        drop(client);
        world.quiet().await;
    };
    round().await;
    let (memory, files, threads) = (world.memory(), world.files(), world.kernel("Threads"));
    for _ in 0..3 {
        round().await;
    }
    assert!(world.files() <= files + 4, "{} files, {files} before", world.files());
    assert!(world.kernel("Threads") <= threads + 4, "{threads} threads before");
    let grown = world.memory().saturating_sub(memory);
    assert!(grown < 16 * node::MIB, "{grown} KiB more");
    drop(world.end().await);
}

#[tokio::test]
async fn h16_connections_that_cannot_be_accepted_are_counted_and_later_ones_are() {
    let world = World::serve(Vec::new()).await;
    // The one that it heeds; how far it may be raised again stays as it is.
    let limit = |files: usize| {
        let pid = world.responder.id().to_string();
        let limit = format!("--nofile={files}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    // The probe's own connection is among those that are open already.
    world.served(3).await;
    limit(world.files());
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut raw = world.connect().await;
        raw.send("GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        waiting.push(raw);
    }
    // The log tells it; the admin listener cannot be reached anew either.
    wait_until("a failure is told", || async {
        world.responder.text().contains("accept failed").then_some(())
    })
    .await;
    world.served(10).await;
    limit(512);
    for mut raw in waiting {
        assert_eq!(status(&raw.rest().await), "200");
    }
    assert!(world.metric("countersign_accept_errors_total").await > 0);
    // It was tried again and again, but not all the time.
    let told = world.responder.text().matches("accept failed").count();
    assert!(told < 2_000, "{told} lines");
    drop(world.end().await);
}
