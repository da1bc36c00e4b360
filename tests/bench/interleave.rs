//! The users of a recording, interleaved at random, each with the tokens that it is given: how many requests get their own recorded answer, with
//! identities and without.
//!
//! The servers are real binaries; requests go one after the other, in an order that depends on the number of the shuffle alone.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::snapshot::{HttpRequest, RrPair};
use harness::{
    client::{Client, Response},
    process::Process,
    recording,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

const KEY: &str = "a secret of at least thirty-two bytes";

/// What is to be done.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// The folder of the recording; its `access_token`s are re-signed.
    recording: PathBuf,
    /// How often all users begin anew, in another order.
    #[arg(long, default_value_t = 5)]
    shuffles: u64,
}

/// A count of requests.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    own: u32,
    all: u32,
    fresh: u32,
}

/// Does it and prints what came of it.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let pairs = recording::read(&plan.recording).pairs;
    anyhow::ensure!(!pairs.is_empty(), "{} holds no recording", plan.recording.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("| identity | requests | with a fresh token | own answers |");
    println!("|---|---|---|---|");
    for (identity, scope) in [("on", "identity"), ("off", "replica")] {
        let count = runtime.block_on(serve(plan, &pairs, scope))?;
        let percent = f64::from(count.own) * 100.0 / f64::from(count.all.max(1));
        println!("| {identity} | {} | {} | {percent:.3} % |", count.all, count.fresh);
    }
    Ok(())
}

async fn serve(plan: &Plan, pairs: &[RrPair], scope: &str) -> anyhow::Result<Count> {
    let dir = tempfile::tempdir()?;
    let secrets = recording::secret_dir(dir.path(), "key", KEY.as_bytes());
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    fs::write(path("t.json"), recording::seed_template("t", "key"))?;
    let config = json!({"id": "c", "responder": {"sequence": {"scope": scope}}});
    fs::write(path("c.json"), config.to_string())?;
    let mut arguments = vec!["dev".to_owned(), plan.recording.to_string_lossy().into_owned()];
    for (name, value) in [
        ("--transform", path("t.json")),
        ("--test-config", path("c.json")),
        ("--secret-dir", secrets.to_string_lossy().into_owned()),
        ("--listen", "127.0.0.1:0".to_owned()),
        ("--admin-listen", "127.0.0.1:0".to_owned()),
        ("--serve", "all".to_owned()),
    ] {
        arguments.extend([name.to_owned(), value]);
    }
    let mut dev = Process::start("countersign", arguments);
    let client = Client::new(dev.address("data").await);
    let admin = dev.address("admin").await;
    let mut count = Count::default();
    for shuffle in 0..plan.shuffles {
        // A shuffle takes longer than the admin listener keeps a connection.
        let admin = Client::new(admin);
        let reset = admin.send(Method::POST, "/reset", HeaderMap::new(), "".into()).await;
        anyhow::ensure!(reset.status == 200, "no reset: {}", reset.status);
        interleave(&client, pairs, shuffle, &mut count).await?;
    }
    Ok(count)
}

/// A user: what it has to ask, and the tokens that it was given for the recorded ones.
struct User<'p> {
    pairs: std::slice::Iter<'p, &'p RrPair>,
    given: HashMap<String, String>,
}

async fn interleave(
    client: &Client,
    pairs: &[RrPair],
    shuffle: u64,
    count: &mut Count,
) -> anyhow::Result<()> {
    let mut users: BTreeMap<String, Vec<&RrPair>> = BTreeMap::new();
    for (nth, pair) in pairs.iter().enumerate() {
        // Who is nobody asks once.
        let name = user(pair).unwrap_or_else(|| format!("nobody {nth}"));
        users.entry(name).or_default().push(pair);
    }
    let lists: Vec<Vec<&RrPair>> = users.into_values().collect();
    let mut users: Vec<User<'_>> =
        lists.iter().map(|list| User { pairs: list.iter(), given: HashMap::new() }).collect();
    let mut chance = Chance(shuffle.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    while !users.is_empty() {
        let turn = chance.below(users.len());
        let user = users.get_mut(turn).context("a user")?;
        match user.pairs.next() {
            Some(pair) => user.step(client, pair, count).await?,
            None => drop(users.swap_remove(turn)),
        }
    }
    Ok(())
}

impl User<'_> {
    async fn step(
        &mut self,
        client: &Client,
        pair: &RrPair,
        count: &mut Count,
    ) -> anyhow::Result<()> {
        let request = pair.request.as_ref().context("a pair has a request")?;
        let fresh = bearer(request).and_then(|token| self.given.get(token));
        count.all += 1;
        count.fresh += u32::from(fresh.is_some());
        let answer = send(client, request, fresh).await?;
        let recorded = access_token(&pair.response.body);
        if let (Some(old), Some(new)) = (recorded, access_token(&answer.body)) {
            self.given.insert(old, new);
        }
        let own = answer.status.as_u16() == pair.response.status
            && told(&answer.body) == told(&pair.response.body);
        count.own += u32::from(own);
        Ok(())
    }
}

/// Sends a recorded request with the token that the user has now.
async fn send(
    client: &Client,
    request: &HttpRequest,
    fresh: Option<&String>,
) -> anyhow::Result<Response> {
    let mut headers = HeaderMap::new();
    for header in &request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes())?;
        let swapped = fresh.filter(|_| name == http::header::AUTHORIZATION);
        if !["connection", "content-length", "accept-encoding"].contains(&name.as_str()) {
            let value = swapped.map(|token| format!("Bearer {token}").parse());
            let value = value.unwrap_or_else(|| HeaderValue::from_bytes(&header.value))?;
            headers.append(name, value);
        }
    }
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let target = format!("{}{query}", request.path);
    let method = Method::from_bytes(request.method.as_bytes())?;
    let answer = client.try_send(method, &target, headers, request.body.clone()).await;
    answer.map_err(anyhow::Error::msg)
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut fields = request.headers.iter();
    let field = fields.find(|header| header.name.eq_ignore_ascii_case("authorization"))?;
    std::str::from_utf8(&field.value).ok()?.strip_prefix("Bearer ")
}

/// The user behind a pair: who presents a token or another credential, or logs in.
fn user(pair: &RrPair) -> Option<String> {
    let request = pair.request.as_ref()?;
    let claims = |token: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
    };
    if let Some(claims) = bearer(request).and_then(claims) {
        return Some(claims.get("sub")?.as_str()?.to_owned());
    }
    let credentials = ["authorization", "x-api-key", "cookie"];
    let presented = request
        .headers
        .iter()
        .find(|header| credentials.iter().any(|name| header.name.eq_ignore_ascii_case(name)));
    if let Some(header) = presented {
        return Some(String::from_utf8_lossy(&header.value).into_owned());
    }
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    Some(body.get("username")?.as_str()?.to_owned())
}

fn access_token(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("access_token")?.as_str()?.to_owned())
}

/// A body without its token.
fn told(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match access_token(body) {
        Some(token) => text.replace(&token, ""),
        None => text,
    }
}

/// Numbers that look random and are the same in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % limit.max(1)
    }
}
