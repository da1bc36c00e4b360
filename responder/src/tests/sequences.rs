//! Turns that two nodes share: asked for over their own connections, listed, begun anew, kept in another version, and done without.

use std::net::SocketAddr;

use countersign_engine::snapshot::{Header, RrPair};
use countersign_proto::{
    discovery::v1::Member,
    responder::v1::{
        ListSequencesRequest, ResetRequest, Sequence, SequenceScope, SequenceSelector,
        admin_service_client::AdminServiceClient,
    },
};

use super::{
    body, config, exchange, fake::ControlPlane, fake::Stream, fake::name, get, get_admin, in_time,
    json, pair, status,
};
use crate::app::{self, Running};

const GLOBAL: &str = r#"{"id":"c","responder":{"sequence":{"scope":"global"}}}"#;
const LISTS: usize = 12;

/// Two nodes, and what each has told of itself.
struct Both {
    plane: ControlPlane,
    nodes: Vec<(Running, Stream, Member)>,
    _secrets: tempfile::TempDir,
}

/// So many lists of three answers.
fn pairs() -> Vec<RrPair> {
    let list = |list: usize| ["0", "1", "2"].map(|turn| pair("GET", &format!("/{list}"), turn));
    (0..LISTS).flat_map(list).collect()
}

impl Both {
    async fn start() -> Self {
        Self::start_with(pairs(), GLOBAL).await
    }

    async fn start_with(pairs: Vec<RrPair>, test_config: &str) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let mut plane = ControlPlane::start().await;
        let bundle = plane.put_with(pairs, None, Some(test_config));
        let mut nodes = Vec::new();
        for nth in 1..=2 {
            let mut config = config(secrets.path(), Some(&plane));
            config.name = format!("r{nth}");
            config.peer_listen = Some("127.0.0.1:0".parse().unwrap());
            config.api_listen = config.peer_listen;
            let running = app::start(config).await.unwrap();
            let mut stream = plane.accept().await;
            stream.welcome("store", 1).await;
            stream.delta(1, 1, &[("r", bundle, 1)], &[], true).await;
            let ack = stream.ack().await;
            let peer = ack.outcomes[0].status.as_ref().unwrap().sequence_peer.clone().unwrap();
            assert_eq!(peer.address, running.peer_addr().unwrap().to_string());
            let (session_id, address) = (peer.session_id, peer.address);
            let member = Member { name: format!("r{nth}"), session_id, address };
            nodes.push((running, stream, member));
        }
        Self { plane, nodes, _secrets: secrets }
    }

    fn member(&self, nth: usize) -> Member {
        self.nodes[nth].2.clone()
    }

    /// Tells these nodes who shares turns.
    async fn members(
        &mut self,
        told: &[usize],
        now: (u64, Vec<Member>),
        before: (u64, Vec<Member>),
    ) {
        for nth in told {
            self.nodes[*nth].1.members(&name("r"), now.clone(), before.clone()).await;
        }
    }

    fn data(&self, nth: usize) -> SocketAddr {
        self.nodes[nth].0.data_addr()
    }

    async fn turn(&self, nth: usize, list: usize) -> String {
        let answer = in_time(get(self.data(nth), &format!("/{list}"))).await;
        assert_eq!(status(&answer), "200");
        body(&answer).to_owned()
    }

    async fn admin(&self, nth: usize) -> AdminServiceClient<tonic::transport::Channel> {
        let api = format!("http://{}", self.nodes[nth].0.api_addr().unwrap());
        AdminServiceClient::connect(api).await.unwrap()
    }

    async fn sequences(&self, nth: usize) -> Vec<Sequence> {
        let asked = ListSequencesRequest::default();
        self.admin(nth).await.list_sequences(asked).await.unwrap().into_inner().sequences
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_have_one_order_and_tell_of_it() {
    let mut both = Both::start().await;
    let members = vec![both.member(0), both.member(1)];
    both.members(&[0, 1], (5, members.clone()), (0, Vec::new())).await;
    for turn in 0..4 {
        for list in 0..LISTS {
            assert_eq!(both.turn(turn % 2, list).await, (turn % 3).to_string());
        }
    }
    let told = both.sequences(0).await;
    assert_eq!(told.len(), LISTS);
    for owner in ["r1", "r2"] {
        assert!(told.iter().any(|list| list.owner == owner), "both own lists");
    }
    for list in &told {
        assert_eq!((list.scope(), list.discontinuities), (SequenceScope::Fleet, 0));
        // The owner knows it for sure; whoever asked it last has seen one turn less.
        assert_eq!(list.taken, if list.owner == "r1" { 4 } else { 3 }, "{list:?}");
    }
    let shared = json(&get_admin(both.nodes[1].0.admin_addr(), "/status").await);
    let shared = shared["replays"][0]["sequences"]["shared"].clone();
    let expected = serde_json::json!({
        "lists": LISTS, "epoch": 5, "members": ["r1", "r2"], "settled": true, "discontinuities": 0,
    });
    assert_eq!(shared, expected);

    // One list begins anew at both nodes, whoever owns it, and then all of them.
    let selector = Some(SequenceSelector { path: "/3".into(), ..SequenceSelector::default() });
    let one = ResetRequest { selector, ..ResetRequest::default() };
    both.admin(0).await.reset(one).await.unwrap();
    assert_eq!((both.turn(1, 3).await, both.turn(0, 4).await), ("0".into(), "1".into()));
    both.admin(1).await.reset(ResetRequest::default()).await.unwrap();
    for list in 0..LISTS {
        assert_eq!(both.turn(list % 2, list).await, "0");
    }

    // Another version goes on where the answers are the same, and begins anew where they are not.
    let mut other = pairs();
    other.push(pair("GET", "/0", "3"));
    let bundle = both.plane.put_with(other, None, Some(GLOBAL));
    for (_, stream, _) in &mut both.nodes {
        stream.delta(2, 2, &[("r", bundle, 2)], &[], true).await;
        stream.ack().await;
    }
    assert_eq!((both.turn(0, 0).await, both.turn(1, 0).await), ("0".into(), "1".into()));
    for list in 1..LISTS {
        assert_eq!(both.turn(0, list).await, "1");
    }

    // Whoever is told that it is alone goes on, once the other has handed over.
    both.members(&[0], (9, vec![both.member(0)]), (5, members)).await;
    for list in 1..LISTS {
        assert_eq!(both.turn(0, list).await, "2");
    }
    assert_eq!(both.turn(0, 0).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_alone_when_the_owner_cannot_be_asked() {
    let mut both = Both::start().await;
    let gone =
        Member { name: "r2".into(), session_id: "gone".into(), address: "127.0.0.1:9".into() };
    let members = vec![both.member(0), gone];
    both.members(&[0], (5, members), (0, Vec::new())).await;
    let mut answers = Vec::new();
    for list in 0..LISTS {
        answers.push(both.turn(0, list).await);
    }
    assert!(answers.iter().all(|answer| answer == "0"));
    let told = both.sequences(0).await;
    let broken = told.iter().filter(|list| list.discontinuities > 0).collect::<Vec<_>>();
    assert!(!broken.is_empty() && broken.iter().all(|list| list.owner == "r2"), "{told:?}");
    let metrics = get_admin(both.nodes[0].0.admin_addr(), "/metrics").await;
    let counted = format!(
        "countersign_sequence_discontinuity_total{{reason=\"alone\"}} {}",
        broken.iter().map(|list| list.discontinuities).sum::<u64>()
    );
    assert!(metrics.contains(&counted), "{metrics}");
}

/// A pair of somebody who is known by a key.
fn of(user: &str, method: &str, path: &str, answer: &str) -> RrPair {
    let mut pair = pair(method, path, answer);
    let value = format!("Bearer key-of-{user}").into();
    pair.request.as_mut().unwrap().headers = vec![Header { name: "Authorization".into(), value }];
    pair
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changes_at_one_node_is_so_at_the_other() {
    let mut recorded = Vec::new();
    for user in ["ann", "bob"] {
        for (method, path, answer) in [
            ("GET", "/cart", "nothing"),
            ("POST", "/cart", "ok"),
            ("GET", "/cart", "one"),
            ("POST", "/cart", "ok"),
            ("GET", "/cart", "two"),
            ("GET", "/n", "0"),
            ("GET", "/n", "1"),
            ("GET", "/n", "2"),
        ] {
            recorded.push(of(user, method, path, &format!("{user} {answer}")));
        }
    }
    let shared = r#"{"id":"c","responder":{"sequence":{"across":"fleet"}}}"#;
    let mut both = Both::start_with(recorded, shared).await;
    let members = vec![both.member(0), both.member(1)];
    both.members(&[0, 1], (5, members), (0, Vec::new())).await;
    let ask = async |node: usize, user: &str, method: &str, path: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer key-of-{user}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        body(&in_time(exchange(both.data(node), &request)).await).to_owned()
    };
    for user in ["ann", "bob"] {
        for (node, expected) in [(0, "nothing"), (1, "one"), (0, "two")] {
            assert_eq!(ask(node, user, "GET", "/cart").await, format!("{user} {expected}"));
            assert_eq!(ask(node, user, "GET", "/cart").await, format!("{user} {expected}"));
            assert_eq!(ask(1 - node, user, "GET", "/cart").await, format!("{user} {expected}"));
            assert_eq!(ask(1 - node, user, "POST", "/cart").await, format!("{user} ok"));
        }
        for turn in 0..7 {
            let expected = format!("{user} {}", turn % 3);
            assert_eq!(ask(turn % 2, user, "GET", "/n").await, expected);
        }
    }
    both.admin(0).await.reset(ResetRequest::default()).await.unwrap();
    assert_eq!(ask(1, "ann", "GET", "/cart").await, "ann nothing");
    assert_eq!(ask(0, "ann", "GET", "/n").await, "ann 0");
    let told = both.sequences(1).await;
    assert!(told.iter().all(|list| list.discontinuities == 0), "{told:?}");
}
