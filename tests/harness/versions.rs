//! A replay in many versions, and traffic that finds out whether each response is one version's own, whole.
//!
//! A version is a transform that writes its number to three places of each response. A response in which they differ is made of two
//! versions; one that is not, byte for byte, what its version says, is of none.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    client::{Client, Response},
    recording,
};

/// The id of the snapshot, its transform and its replay.
pub const ID: &str = "versions";
/// How many endpoints are recorded.
pub const ENDPOINTS: usize = 40;
const HEADER: &str = "x-version";
const TEXT: &str = "all of it is of one version, or something is wrong; ";

/// The recording, as JSON lines.
#[must_use]
pub fn recording() -> String {
    let mut lines = String::new();
    for at in 0..ENDPOINTS {
        let body = json!({"at": at, "end": "v0", "text": TEXT.repeat(8), "version": "v0"});
        let mut line: Value =
            serde_json::from_str(&recording::line("GET", &path(at), &body)).unwrap();
        line["http"]["res"]["headers"][HEADER] = json!(["v0"]);
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

/// The transform of a version.
#[must_use]
pub fn template(version: u64) -> Value {
    let set = |extractor: Value, path: Option<&str>| {
        let mut steps: Vec<Value> = path
            .map(|path| json!({"type": "json_path", "config": {"path": path}}))
            .into_iter()
            .collect();
        steps.push(json!({"type": "constant", "config": {"new": format!("v{version}")}}));
        json!({"extractor": extractor, "transforms": steps})
    };
    let body = || json!({"type": "res_body"});
    let header = json!({"type": "http_res_header", "config": {"name": HEADER}});
    json!({"id": ID, "responder": [set(header, None), set(body(), Some("version")), set(body(), Some("end"))]})
}

fn path(at: usize) -> String {
    format!("/version/{at}")
}

fn body(version: u64, at: usize) -> String {
    let text = TEXT.repeat(8);
    format!(r#"{{"at":{at},"end":"v{version}","text":"{text}","version":"v{version}"}}"#)
}

/// The version that a response is of.
///
/// # Errors
/// When it is of none or of several, in a sentence.
pub fn version(at: usize, response: &Response) -> Result<u64, String> {
    let wrong = |why: &str| {
        format!(
            "{} of {}: {why}: {}",
            response.status,
            path(at),
            String::from_utf8_lossy(&response.body)
        )
    };
    if response.status != 200 {
        return Err(wrong("not answered"));
    }
    let told = response
        .headers
        .get(HEADER)
        .and_then(|value| value.to_str().ok()?.strip_prefix('v')?.parse().ok());
    let version = told.ok_or_else(|| wrong("no version"))?;
    if response.body == body(version, at) {
        Ok(version)
    } else {
        Err(wrong(&format!("not what version {version} says")))
    }
}

/// What a client does when a request fails.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// It asks again for so long, on another connection, as a balancer does for its clients.
    pub patience: Duration,
    /// It waits so long between two requests.
    pub pause: Option<Duration>,
}

/// The version that every request that begins now has to be answered with, or a later one.
pub type Floor = Arc<AtomicU64>;

/// What came of some requests.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// How many were answered with a whole version each.
    pub answered: u64,
    /// How many of them after a request that failed.
    pub retried: u64,
    /// What was not answered at all, or by no whole version.
    pub failed: Vec<String>,
    /// How many answers were of which version.
    pub versions: BTreeMap<u64, u64>,
    /// Microseconds of each request that was answered at once.
    pub micros: Vec<u32>,
}

impl Tally {
    /// Both.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.retried += other.retried;
        self.failed.extend(other.failed);
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
        self.micros.extend(other.micros);
        self
    }

    /// The time within which so many per cent of the requests were answered, in milliseconds.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        f64::from(sorted.get(place).copied().unwrap_or_default()) / 1000.0
    }
}

/// Clients that ask until they are told to stop.
#[derive(Debug)]
pub struct Traffic {
    ended: Arc<AtomicBool>,
    tallies: Vec<Arc<Mutex<Tally>>>,
    clients: JoinSet<()>,
}

impl Traffic {
    /// Starts so many clients.
    #[must_use]
    pub fn start(door: SocketAddr, clients: usize, manner: Manner, floor: &Floor) -> Self {
        let mut traffic =
            Self { ended: Arc::default(), tallies: Vec::new(), clients: JoinSet::new() };
        for nth in 0..clients {
            let tally = Arc::new(Mutex::new(Tally::default()));
            traffic.tallies.push(Arc::clone(&tally));
            let asker = Asker { door, manner, floor: Arc::clone(floor), tally };
            traffic.clients.spawn(asker.run(nth, Arc::clone(&traffic.ended)));
        }
        traffic
    }

    /// What came of it since this was asked last.
    #[must_use]
    pub fn take(&self) -> Tally {
        let taken = self.tallies.iter().map(|tally| mem::take(&mut *tally.lock().unwrap()));
        taken.fold(Tally::default(), Tally::with)
    }

    /// How many were answered since they were taken last.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.lock().unwrap().answered).sum()
    }

    /// Stops, and tells the rest.
    pub async fn finish(mut self) -> Tally {
        self.ended.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("a client does not panic");
        }
        self.take()
    }
}

/// One client.
struct Asker {
    door: SocketAddr,
    manner: Manner,
    floor: Floor,
    tally: Arc<Mutex<Tally>>,
}

impl Asker {
    async fn run(self, first: usize, ended: Arc<AtomicBool>) {
        let mut client = Client::new(self.door);
        let mut pause = self.manner.pause.map(|pause| {
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        for nth in first.. {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            if let Some(pause) = &mut pause {
                pause.tick().await;
            }
            self.ask(nth % ENDPOINTS, &mut client).await;
        }
    }

    async fn ask(&self, at: usize, client: &mut Client) {
        let (begin, mut tries) = (Instant::now(), 1_u32);
        let (answer, floor) = loop {
            let floor = self.floor.load(Ordering::Acquire);
            let answer = one(client, at).await;
            if answer.is_ok() || begin.elapsed() >= self.manner.patience {
                break (answer, floor);
            }
            *client = Client::new(self.door);
            tries += 1;
        };
        let micros = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
        let mut tally = self.tally.lock().unwrap();
        match answer.and_then(|response| version(at, &response)) {
            Ok(version) if version < floor => {
                tally.failed.push(format!("version {version} after {floor} was ready everywhere"));
            }
            Ok(version) => {
                tally.answered += 1;
                tally.retried += u64::from(tries > 1);
                *tally.versions.entry(version).or_default() += 1;
                if tries == 1 {
                    tally.micros.push(micros);
                }
            }
            Err(why) => tally.failed.push(format!("{why} (asked {tries} times)")),
        }
    }
}

/// How long a client waits for one answer.
const LIMIT: Duration = Duration::from_secs(5);

async fn one(client: &Client, at: usize) -> Result<Response, String> {
    let target = path(at);
    let asked = client.try_send(Method::GET, &target, HeaderMap::new(), "".into());
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;

    fn response(header: &str, body: String) -> Response {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(HEADER),
            header.parse().unwrap(),
        )]);
        Response { status: StatusCode::OK, headers, body: Bytes::from(body) }
    }

    #[test]
    fn a_mixed_response_is_found() {
        assert_eq!(version(3, &response("v7", body(7, 3))), Ok(7));
        assert!(version(3, &response("v7", body(6, 3))).is_err());
        assert!(version(3, &response("v7", body(7, 4))).is_err(), "of another endpoint");
        let half = body(7, 3).replacen("\"end\":\"v7\"", "\"end\":\"v6\"", 1);
        assert!(version(3, &response("v7", half)).is_err());
        let recorded: Value = serde_json::from_str(recording().lines().nth(3).unwrap()).unwrap();
        let body = recorded["http"]["res"]["bodyBase64"].as_str().unwrap();
        let body =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
        assert_eq!(version(3, &response("v0", String::from_utf8(body).unwrap())), Ok(0));
    }

    #[test]
    fn percentiles_are_of_all_tallies() {
        let of =
            |micros: &[u32]| Tally { micros: micros.to_vec(), answered: 1, ..Tally::default() };
        let both = of(&[1000, 3000]).with(of(&[2000, 9000]));
        assert_eq!((both.answered, both.percentile(50), both.percentile(99)), (2, 3.0, 9.0));
    }
}
