//! Turns under load, over many connections and both ways in: every position is taken once, and everybody's own in order.

use std::net::SocketAddr;

use countersign_engine::snapshot::{Header, RrPair};
use countersign_proto::responder::v1::{
    RespondRequest, respond_response::Outcome, responder_service_client::ResponderServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{api::get, in_time, pair, serving_with};

const STEPS: usize = 10_000;
const ALL: &str = r#"{"id":"c","responder":{"sequence":{"scope":"global"}}}"#;

/// Asks so often on one connection of its own and reads the answers.
async fn ask(addr: SocketAddr, times: usize, fields: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request =
        |more: &str| format!("GET /n HTTP/1.1\r\nhost: api.example\r\n{fields}{more}\r\n");
    let requests = request("").repeat(times - 1) + &request("connection: close\r\n");
    let mut text = String::new();
    let (mut read, mut write) = stream.split();
    let (written, got) =
        tokio::join!(write.write_all(requests.as_bytes()), read.read_to_string(&mut text));
    written.unwrap();
    got.unwrap();
    let answers = text.split("HTTP/1.1 200 OK").skip(1);
    answers.map(|answer| answer.split_once("\r\n\r\n").unwrap().1.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_over_all_identities_and_ways_in() {
    let pairs = (0..STEPS).map(|nth| {
        let mut pair = pair("GET", "/n", &nth.to_string());
        pair.request.as_mut().unwrap().headers = own(nth % 3);
        pair
    });
    let (running, _plane, _stream) = serving_with(pairs.collect(), Some(ALL), |config| {
        config.api_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let (data, api) = (running.data_addr(), running.api_addr().unwrap());
    let mut tasks = JoinSet::new();
    for user in 0..40 {
        let fields = format!("authorization: {}\r\n", credential(user % 4));
        tasks.spawn(async move { ask(data, STEPS / 80, &fields).await });
    }
    for _ in 0..40 {
        tasks.spawn(async move {
            let mut client =
                ResponderServiceClient::connect(format!("http://{api}")).await.unwrap();
            let requests = (0..STEPS / 80).map(|nth| RespondRequest {
                request_id: nth.to_string(),
                request: Some(get("/n")),
                ..RespondRequest::default()
            });
            let answers = client.respond_stream(tokio_stream::iter(requests)).await.unwrap();
            let mut answers = answers.into_inner();
            let mut bodies = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                assert_eq!(answer.request_id, bodies.len().to_string(), "in order");
                let Some(Outcome::Answer(answer)) = answer.outcome else { panic!("no answer") };
                bodies.push(String::from_utf8(answer.body.to_vec()).unwrap());
            }
            bodies
        });
    }
    let all = in_time(tasks.join_all()).await;
    let mut taken: Vec<usize> = all.concat().iter().map(|body| body.parse().unwrap()).collect();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..STEPS), "every position exactly once");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_takes_the_own_answers_in_order() {
    const USERS: usize = 40;
    let pairs: Vec<RrPair> = (0..STEPS)
        .map(|nth| {
            let (user, turn) = (nth % USERS, nth / USERS);
            let mut pair = pair("GET", "/n", &format!("{user}:{turn}"));
            pair.request.as_mut().unwrap().headers = own(user);
            pair
        })
        .collect();
    let (running, _plane, _stream) = serving_with(pairs, None, |_| {}).await;
    let data = running.data_addr();
    let mut tasks = JoinSet::new();
    for user in 0..USERS {
        let fields = format!("authorization: {}\r\n", credential(user));
        tasks.spawn(async move { (user, ask(data, STEPS / USERS, &fields).await) });
    }
    for (user, answers) in in_time(tasks.join_all()).await {
        let expected = (0..STEPS / USERS).map(|turn| format!("{user}:{turn}"));
        assert!(answers.into_iter().eq(expected), "user {user}");
    }
}

/// Who is known by a key; the recording knows the first ones.
fn credential(user: usize) -> String {
    format!("Bearer key-of-{user}")
}

fn own(user: usize) -> Vec<Header> {
    vec![Header { name: "Authorization".into(), value: credential(user).into() }]
}
