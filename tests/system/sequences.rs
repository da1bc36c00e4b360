//! Turns that several responders share: one order behind a balancer, also while responders come and go.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_proto::responder::v1::{
    ListSequencesRequest, admin_service_client::AdminServiceClient,
};
use harness::{
    balancer::Balancer,
    client::Client,
    notice,
    process::{self, Process},
    recording,
    redis::Redis,
    register::{Break, Call, Found, check},
    wait_until,
};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

/// So many lists of answers are asked for at a time, each by so many clients.
const LISTS: usize = 6;
const CLIENTS: usize = 2;

/// A control plane, and a replay whose `/list/N` have so many answers each, which are their numbers.
struct World {
    dir: tempfile::TempDir,
    _plane: Process,
    grpc: SocketAddr,
    secrets: PathBuf,
}

impl World {
    async fn new(answers: usize, sequence: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for turn in 0..answers {
            for list in 0..LISTS {
                let answer = json!({ "turn": turn });
                let line = recording::line("GET", &format!("/list/{list}"), &answer);
                writeln!(lines, "{line}").unwrap();
            }
        }
        fs::write(dir.path().join("lists.jsonl"), lines).unwrap();
        let config = json!({"id": "shared", "responder": {"sequence": sequence}});
        fs::write(dir.path().join("shared.json"), config.to_string()).unwrap();
        let mut plane = process::control_plane(&dir.path().join("data"), "127.0.0.1:0");
        let grpc = plane.address("grpc").await;
        let secrets = recording::secret_dir(dir.path(), "unused", b"not used, but long enough");
        Self { dir, _plane: plane, grpc, secrets }
    }

    fn responder(&self, name: &str, listen: &str) -> Process {
        responder(self.grpc, &self.secrets, name, listen, &["--peer-listen", "127.0.0.1:0"])
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let server = format!("http://{}", self.grpc);
        let global = ["--server", &server, "--output", "json"];
        process::run("countersign", global.iter().chain(arguments)).ok().stdout()
    }

    fn start(&self) {
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        self.cli(&["snapshot", "import", &path("lists.jsonl"), "--id", "lists"]);
        self.cli(&["test-config", "put", &path("shared.json")]);
        self.cli(&["replay", "start", "--snapshot", "lists", "--test-config", "shared", "--wait"]);
    }
}

fn responder(grpc: SocketAddr, secrets: &Path, name: &str, listen: &str, more: &[&str]) -> Process {
    let plane = format!("http://{grpc}");
    let arguments = [
        "--listen",
        listen,
        "--admin-listen",
        "127.0.0.1:0",
        "--api-listen",
        "127.0.0.1:0",
        "--name",
        name,
        "--control-plane",
        &plane,
        "--secret-dir",
        &secrets.to_string_lossy(),
        "--log-format",
        "json",
    ];
    let log = "info,countersign_responder::sequence=debug";
    Process::start_in(
        "countersign-responder",
        arguments.iter().chain(more),
        &[("RUST_LOG".to_owned(), log.to_owned())],
    )
}

/// Waits until all of these are told that all of these share turns.
async fn agreed(responders: &mut [Process], names: &[&str]) {
    for responder in responders {
        let admin = Client::new(responder.address("admin").await);
        wait_until("it shares turns with the others", || async {
            let shared = shared(&admin).await;
            (shared["members"] == json!(names) && shared["settled"] == json!(true)).then_some(())
        })
        .await;
    }
}

async fn shared(admin: &Client) -> Value {
    admin.get("/status").await.json()["replays"][0]["sequences"]["shared"].clone()
}

async fn turn(client: &Client, list: usize) -> Result<u64, String> {
    let path = format!("/list/{list}");
    let answer = client.try_send(Method::GET, &path, HeaderMap::new(), "".into()).await?;
    if answer.status != 200 {
        return Err(answer.status.to_string());
    }
    answer.json()["turn"].as_u64().ok_or_else(|| "no turn".to_owned())
}

fn nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

/// What responders have logged of breaks, by list.
fn breaks(logs: &[String]) -> BTreeMap<String, Vec<Break>> {
    let mut found: BTreeMap<String, Vec<Break>> = BTreeMap::new();
    let lines = logs.iter().flat_map(|log| log.lines());
    for line in lines.filter(|line| line.contains("sequence::discontinuity")) {
        let line: Value = serde_json::from_str(line).unwrap();
        let fields = &line["fields"];
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        let time = i64::try_from(time.as_nanosecond()).unwrap();
        let turn = fields["at"].as_u64();
        let one = match fields["reason"].as_str().unwrap() {
            "lost" => Break::Lost { time, turn: turn.unwrap() },
            "alone" => Break::Alone { time, turn: turn.unwrap() },
            reason => {
                assert_eq!(reason, "skipped");
                Break::Skipped { calls: fields["calls"].as_u64().unwrap() }
            }
        };
        found.entry(fields["list"].as_str().unwrap().to_owned()).or_default().push(one);
    }
    found
}

/// Calls through the balancer until it is over, by list.
struct Load {
    clients: JoinSet<(usize, Vec<Call>)>,
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Load {
    fn begin(balancer: SocketAddr, pace: Duration) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for nth in 0..LISTS * CLIENTS {
            let (over, made) = (Arc::clone(&over), Arc::clone(&calls));
            clients.spawn(async move {
                let (list, mut calls, mut pace) = (nth % LISTS, Vec::new(), interval(pace));
                let mut client = Client::new(balancer);
                while !over.load(Ordering::Relaxed) {
                    pace.tick().await;
                    let invoked = nanos();
                    let answer = turn(&client, list).await;
                    let answered = answer.as_ref().ok().map(|turn| (nanos(), *turn));
                    calls.push(Call { invoked, answered });
                    made.fetch_add(1, Ordering::Relaxed);
                    // Another connection goes to another responder.
                    if answered.is_none() || calls.len() % 7 == 0 {
                        client = Client::new(balancer);
                    }
                }
                (list, calls)
            });
        }
        Self { clients, over, calls }
    }

    /// Waits until so many more calls were made.
    async fn more(&self, calls: usize) {
        let until = self.calls.load(Ordering::Relaxed) + calls;
        wait_until("calls go on", || async {
            (self.calls.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    async fn end(self) -> Vec<Vec<Call>> {
        self.over.store(true, Ordering::Relaxed);
        let mut lists = vec![Vec::new(); LISTS];
        for (list, calls) in self.clients.join_all().await {
            lists[list].extend(calls);
        }
        lists
    }
}

/// What the log calls each list.
async fn ids(responder: &mut Process) -> Vec<String> {
    let api = format!("http://{}", responder.address("api").await);
    let mut admin = AdminServiceClient::connect(api).await.unwrap();
    let listed = admin.list_sequences(ListSequencesRequest::default()).await.unwrap().into_inner();
    let mut by_path: Vec<_> = listed.sequences.into_iter().map(|s| (s.path, s.list_id)).collect();
    by_path.sort_unstable();
    by_path.into_iter().map(|(_, name)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn responders_behind_a_balancer_have_one_order() {
    let world = World::new(5, &json!({"scope": "global"})).await;
    let names = ["one", "two", "three"];
    let mut all = names.map(|name| world.responder(name, "127.0.0.1:0"));
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    let balancer = Balancer::start(&servers).await;
    world.start();
    agreed(&mut all, &["one", "three", "two"]).await;
    for nth in 0..14 {
        for list in 0..LISTS {
            // A client of its own has a connection of its own, which goes to the next responder.
            assert_eq!(turn(&Client::new(balancer.addr()), list).await, Ok(nth % 5));
        }
    }
    assert!(balancer.taken().iter().all(|taken| *taken > 10), "all have answered");

    // Whoever ends hands over what it kept, and whoever comes is given its part.
    assert!(all[0].terminate().await.success());
    for nth in 14..20 {
        for list in 0..LISTS {
            let client = Client::new(servers[1 + usize::try_from(nth).unwrap() % 2]);
            assert_eq!(turn(&client, list).await, Ok(nth % 5), "{}", all[1].text());
        }
    }
    all[0] = world.responder("one", "127.0.0.1:0");
    let back = Client::new(all[0].address("data").await);
    agreed(&mut all, &["one", "three", "two"]).await;
    for list in 0..LISTS {
        assert_eq!(turn(&back, list).await, Ok(0));
    }
    assert_eq!(breaks(&all.each_ref().map(Process::text)), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn cycles_are_taken_whole_and_each_once() {
    let world = World::new(4, &json!({"scope": "global", "order": "cycles", "lease": 2})).await;
    let mut all = ["one", "two"].map(|name| world.responder(name, "127.0.0.1:0"));
    let mut clients = Vec::new();
    for responder in &mut all {
        clients.push(Client::new(responder.address("data").await));
    }
    world.start();
    agreed(&mut all, &["one", "two"]).await;
    for client in &clients {
        for nth in 0..20 {
            assert_eq!(turn(client, 0).await, Ok(nth % 4), "each responder has whole cycles");
        }
    }
    assert_eq!(breaks(&all.each_ref().map(Process::text)), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_turns_and_nothing_fails_without_it() {
    let Some(mut redis) = Redis::start().await else { return };
    let world = World::new(1000, &json!({"scope": "global"})).await;
    let url = redis.url();
    let mut all = ["one", "two"].map(|name| {
        let more = ["--sequence-redis", &url];
        responder(world.grpc, &world.secrets, name, "127.0.0.1:0", &more)
    });
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    world.start();
    let balancer = Balancer::start(&servers).await;
    let load = Load::begin(balancer.addr(), Duration::from_millis(20));
    load.more(600).await;
    let lists = load.end().await;
    for calls in &lists {
        let found = check(calls, &[]).unwrap();
        assert_eq!((found.ordered, found.missing), (calls.len(), 0));
    }

    // Whoever asks while it is gone goes on from what was seen.
    redis.crash();
    let client = Client::new(servers[0]);
    let before = turn(&client, 0).await.unwrap();
    assert_eq!(turn(&client, 0).await, Ok(before + 1));
    let admin = Client::new(all[0].address("admin").await);
    let told = shared(&admin).await["discontinuities"].as_u64().unwrap();
    assert!(told >= 2, "{told}");
    // When it is back without what it knew, that is told as well.
    redis.resume().await;
    wait_until("redis gives turns again", || async {
        (turn(&client, 0).await.unwrap() < before).then_some(())
    })
    .await;
    let told = breaks(&all.each_ref().map(Process::text));
    let lost = told.values().flatten().filter(|one| matches!(one, Break::Lost { .. })).count();
    assert_eq!(lost, 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_linearizable_while_responders_are_killed() {
    const KILLS: usize = 4;
    let world = World::new(1500, &json!({"scope": "global"})).await;
    let names = ["one", "two", "three"];
    let mut all = names.map(|name| world.responder(name, "127.0.0.1:0"));
    let mut servers = Vec::new();
    for responder in &mut all {
        servers.push(responder.address("data").await);
    }
    let balancer = Balancer::start(&servers).await;
    world.start();
    agreed(&mut all, &["one", "three", "two"]).await;
    let load = Load::begin(balancer.addr(), Duration::from_millis(20));
    load.more(300).await;
    let mut logs = Vec::new();
    for kill in 0..KILLS {
        let nth = kill % names.len();
        all[nth].kill();
        load.more(300).await;
        let listen = servers[nth].to_string();
        let killed = std::mem::replace(&mut all[nth], world.responder(names[nth], &listen));
        logs.push(killed.text());
        agreed(&mut all, &["one", "three", "two"]).await;
        load.more(300).await;
    }
    let lists = load.end().await;
    logs.extend(all.each_ref().map(Process::text));
    let breaks = breaks(&logs);
    let ids = ids(&mut all[0]).await;
    assert!(ids.len() == LISTS && breaks.keys().all(|list| ids.contains(list)), "{ids:?}");
    let of = |id: &String| breaks.get(id).map_or(&[][..], Vec::as_slice);
    let checked = lists.iter().zip(&ids).map(|(calls, id)| check(calls, of(id)));
    let found: Vec<Found> =
        checked.map(|found| found.unwrap_or_else(|why| panic!("{why}; {breaks:?}"))).collect();
    notice(&format!("turns of {LISTS} lists through {KILLS} kills: {found:?}"));
    assert!(found.iter().all(|found| found.ordered > 300), "{found:?}");
    assert!(found.iter().map(|found| found.breaks).sum::<usize>() > 0, "owners were killed");
}
