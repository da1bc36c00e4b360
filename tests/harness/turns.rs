//! Turns that several responders share, asked for by many clients: a world to ask in, a load, and what the responders' logs say.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_proto::responder::v1::{
    ListSequencesRequest, admin_service_client::AdminServiceClient,
};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

use crate::{
    client::Client,
    process::{self, Process},
    recording,
    register::{Break, Call},
    wait_until,
};

/// A control plane, and a replay whose `/list/N` have so many answers each, which are their numbers.
#[derive(Debug)]
pub struct World {
    lists: usize,
    dir: tempfile::TempDir,
    _plane: Process,
    grpc: SocketAddr,
    secrets: PathBuf,
}

impl World {
    /// So many lists with so many answers, whose test config has this `sequence`.
    pub async fn new((lists, answers): (usize, usize), sequence: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for turn in 0..answers {
            for list in 0..lists {
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
        Self { lists, dir, _plane: plane, grpc, secrets }
    }

    /// A responder that other responders can reach.
    #[must_use]
    pub fn responder(&self, name: &str, listen: &str) -> Process {
        self.responder_with(name, listen, &["--peer-listen", "127.0.0.1:0"])
    }

    /// A responder with these arguments.
    #[must_use]
    pub fn responder_with(&self, name: &str, listen: &str, more: &[&str]) -> Process {
        let plane = format!("http://{}", self.grpc);
        let secrets = self.secrets.to_string_lossy();
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
            &secrets,
            "--log-format",
            "json",
        ];
        let log = "info,countersign_responder::sequence=debug".to_owned();
        let variables = [("RUST_LOG".to_owned(), log)];
        let arguments = arguments.iter().chain(more);
        Process::start_in("countersign-responder", arguments, &variables)
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let server = format!("http://{}", self.grpc);
        let global = ["--server", &server, "--output", "json"];
        process::run("countersign", global.iter().chain(arguments)).ok().stdout()
    }

    /// Starts the replay, and waits until all responders serve it.
    pub fn start(&self) {
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        self.cli(&["snapshot", "import", &path("lists.jsonl"), "--id", "lists"]);
        self.cli(&["test-config", "put", &path("shared.json")]);
        self.cli(&["replay", "start", "--snapshot", "lists", "--test-config", "shared", "--wait"]);
    }
}

/// Waits until all of these are told that all of these share turns.
pub async fn agreed(responders: &mut [Process], names: &[&str]) {
    for responder in responders {
        let admin = Client::new(responder.address("admin").await);
        wait_until("it shares turns with the others", || async {
            let shared = shared(&admin).await;
            (shared["members"] == json!(names) && shared["settled"] == json!(true)).then_some(())
        })
        .await;
    }
}

/// What a responder tells of the turns that it shares.
pub async fn shared(admin: &Client) -> Value {
    admin.get("/status").await.json()["replays"][0]["sequences"]["shared"].clone()
}

/// The next turn of a list.
///
/// # Errors
/// When no answer comes.
pub async fn turn(client: &Client, list: usize) -> Result<u64, String> {
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
#[must_use]
pub fn breaks(logs: &[String]) -> BTreeMap<String, Vec<Break>> {
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
#[derive(Debug)]
pub struct Load {
    lists: usize,
    clients: JoinSet<(usize, Vec<Call>)>,
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Load {
    /// Begins with so many clients for each list of a world, each of which calls at this pace.
    #[must_use]
    pub fn begin(world: &World, balancer: SocketAddr, each: usize, pace: Duration) -> Self {
        let lists = world.lists;
        let over = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for nth in 0..lists * each {
            let (over, made) = (Arc::clone(&over), Arc::clone(&calls));
            clients.spawn(async move {
                let (list, mut calls, mut pace) = (nth % lists, Vec::new(), interval(pace));
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
        Self { lists, clients, over, calls }
    }

    /// Waits until so many more calls were made.
    pub async fn more(&self, calls: usize) {
        let until = self.calls.load(Ordering::Relaxed) + calls;
        wait_until("calls go on", || async {
            (self.calls.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    /// Ends it, and returns all calls by list.
    pub async fn end(self) -> Vec<Vec<Call>> {
        self.over.store(true, Ordering::Relaxed);
        let mut lists = vec![Vec::new(); self.lists];
        for (list, calls) in self.clients.join_all().await {
            lists[list].extend(calls);
        }
        lists
    }
}

/// What the log calls each list.
pub async fn ids(responder: &mut Process) -> Vec<String> {
    let api = format!("http://{}", responder.address("api").await);
    let mut admin = AdminServiceClient::connect(api).await.unwrap();
    let listed = admin.list_sequences(ListSequencesRequest::default()).await.unwrap().into_inner();
    let mut by_path: Vec<_> = listed.sequences.into_iter().map(|s| (s.path, s.list_id)).collect();
    by_path.sort_unstable();
    by_path.into_iter().map(|(_, name)| name).collect()
}
