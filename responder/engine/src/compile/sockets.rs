//! WebSocket connections of a recording: a handshake with status 101, and the pairs of the same connection, each a message and its answer.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{CompiledSnapshot, Keep, ways::Ways};
use crate::{
    body::{self, BodyKey},
    diagnostic::Diagnostics,
    identity::Identities,
    request::normal_path,
    snapshot::{Header, RrPair, encoded::Pairs, header, wire::Part},
    timing::Timing,
    transform::filter,
    turns::Recorded,
};

/// A recorded connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// The path of its handshake.
    pub(crate) path: String,
    pub(crate) steps: Vec<Step>,
}

/// Something said in a connection.
#[derive(Debug)]
pub(crate) enum Step {
    /// By the client.
    Client(Vec<u8>),
    /// By the server.
    Server {
        instance: usize,
        /// It is text.
        text: bool,
        /// How long after what was said before.
        after: Duration,
    },
}

/// The connections of a recording, while it is compiled.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// What each pair is to which connection, by its place.
    roles: HashMap<usize, (Role, usize)>,
    /// The paths of handshakes.
    paths: Vec<String>,
    messages: Vec<Exchange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Handshake,
    Message,
}

/// A message and its answer.
#[derive(Debug)]
struct Exchange {
    connection: usize,
    /// Its number in the stream.
    nth: u64,
    /// Its place in the recording.
    at: usize,
    /// What the client said.
    key: Option<Vec<u8>>,
    /// What the server said, and whether that is text.
    answer: Option<(usize, bool)>,
    began: Option<i64>,
    took: Duration,
}

impl Sockets {
    /// Finds the connections.
    pub(super) fn find(pairs: &Pairs) -> Self {
        let mut sockets = Self::default();
        let mut open: HashMap<String, usize> = HashMap::new();
        let mut room = RrPair::default();
        for at in 0..pairs.len() {
            let pair = pairs.get(at, Part::Whole, &mut room);
            let ties = Ties::of(pair);
            if is_handshake(pair) {
                let connection = sockets.paths.len();
                let path = pair.request.as_ref().map_or("", |request| request.path.as_str());
                sockets.paths.push(normal_path(path).into_owned());
                sockets.roles.insert(at, (Role::Handshake, connection));
                open.extend(ties.own.into_iter().map(|tie| (tie, connection)));
            } else if pair.stub.is_none()
                && let Some(connection) = ties.to.iter().find_map(|tie| open.get(tie))
            {
                sockets.roles.insert(at, (Role::Message, *connection));
                sockets.messages.push(Exchange {
                    connection: *connection,
                    nth: ties.nth,
                    at,
                    key: None,
                    answer: None,
                    began: pair.ts,
                    took: Duration::from_nanos(pair.duration),
                });
            }
        }
        sockets
    }

    /// The connection that a pair begins.
    pub(super) fn begins(&self, at: usize) -> Option<usize> {
        self.roles.get(&at).filter(|role| role.0 == Role::Handshake).map(|role| role.1)
    }

    /// Whether a pair is a message.
    pub(super) fn has_message(&self, at: usize) -> bool {
        self.roles.get(&at).is_some_and(|role| role.0 == Role::Message)
    }

    /// The connections, step by step.
    pub(super) fn finish(mut self, timing: Timing) -> Vec<Conversation> {
        let with_path = |path| Conversation { path, steps: Vec::new() };
        let mut conversations: Vec<Conversation> =
            std::mem::take(&mut self.paths).into_iter().map(with_path).collect();
        // Stable: without numbers the recorded order stays.
        self.messages.sort_by_key(|message| (message.connection, message.nth));
        let mut before: Option<(usize, i64)> = None;
        for message in self.messages {
            let Some(conversation) = conversations.get_mut(message.connection) else { continue };
            let since = before.filter(|before| before.0 == message.connection).map(|b| b.1);
            let unasked = message.key.is_none();
            conversation.steps.extend(message.key.map(Step::Client));
            if let Some((instance, text)) = message.answer {
                let passed = since.zip(message.began).map(|(since, now)| now.saturating_sub(since));
                let passed = passed.and_then(|passed| u64::try_from(passed).ok());
                let waited = passed.map_or(Duration::ZERO, Duration::from_nanos);
                let after = timing.of(if unasked { waited } else { message.took });
                conversation.steps.push(Step::Server { instance, text, after });
            }
            let took = i64::try_from(message.took.as_nanos()).unwrap_or(i64::MAX);
            let end = message.began.map(|began| began.saturating_add(took));
            before = end.map(|end| (message.connection, end));
        }
        conversations
    }
}

impl CompiledSnapshot {
    /// Adds a message and its answer.
    pub(super) fn add_message(
        &mut self,
        pair: &RrPair,
        at: usize,
        sockets: &mut Sockets,
        ways: &mut Ways,
        keep: &mut Keep,
        found: &mut Diagnostics,
    ) -> Option<Recorded> {
        // They are in recorded order still.
        let nth = sockets.messages.binary_search_by_key(&at, |message| message.at).ok()?;
        let exchange = sockets.messages.get_mut(nth)?;
        let recorded = filter::Recorded::new(pair);
        if !recorded.parts().body.is_empty() {
            let mut parts = recorded.parts().clone();
            let _scope = self.plan.run_on_recorded(pair, &mut parts, &self.world, found);
            exchange.key = Some(key(&parts.body, &self.identities));
        }
        if pair.response.body.is_empty() {
            return None;
        }
        exchange.answer = Some((self.instances.len(), is_text(pair)));
        let instance = self.prepare(&recorded, ways, keep, found);
        self.instances.push(instance);
        Some(Recorded::default())
    }
}

pub(super) fn is_handshake(pair: &RrPair) -> bool {
    let upgrades = |headers: &[Header]| {
        header(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
    };
    pair.response.status == 101
        && (upgrades(&pair.response.headers)
            || pair.request.as_ref().is_some_and(|request| upgrades(&request.headers)))
}

/// What ties pairs of one connection together.
struct Ties {
    /// How others may refer to it.
    own: Vec<String>,
    /// What it refers to, the surest first.
    to: Vec<String>,
    /// Its number in the stream.
    nth: u64,
}

impl Ties {
    fn of(pair: &RrPair) -> Self {
        let extra: Value = serde_json::from_str(&pair.extra_json).unwrap_or_default();
        let text = |at: &str| extra.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let stream = text("/partOfStreamUUID").map(|id| format!("stream {id}"));
        let connection = text("/netinfo/id").map(|id| format!("connection {id}"));
        let id = pair.uuid.map(|id| format!("stream {}", STANDARD.encode(id)));
        let nth = match extra.get("streamSeqNum") {
            Some(Value::String(number)) => number.parse().ok(),
            Some(number) => number.as_u64(),
            None => None,
        };
        let to: Vec<String> = stream.into_iter().chain(connection).collect();
        let own = to.iter().cloned().chain(id).collect();
        Self { own, to, nth: nth.unwrap_or_default() }
    }
}

/// Whether what a server said is text.
fn is_text(pair: &RrPair) -> bool {
    let binary = header(&pair.response.headers, "content-type")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"application/octet-stream"));
    !binary && std::str::from_utf8(&pair.response.body).is_ok()
}

/// What a client's message is compared by.
pub(crate) fn key(message: &[u8], identities: &Identities) -> Vec<u8> {
    match body::key(b"", message) {
        BodyKey::None => Vec::new(),
        BodyKey::Json(json) => identities.marked(&json).unwrap_or(json),
        BodyKey::Hash(_) => identities.marked(message).unwrap_or_else(|| message.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{HttpRequest, Serve};

    fn pair(status: u16, upgrade: bool, extra: &str) -> RrPair {
        let mut pair = RrPair { extra_json: extra.to_owned(), ..RrPair::default() };
        pair.response.status = status;
        let mut request = HttpRequest::default();
        if upgrade {
            request.headers = vec![Header { name: "Upgrade".into(), value: "WebSocket".into() }];
        }
        pair.request = Some(request);
        pair
    }

    #[test]
    fn pairs_are_told_apart_by_their_connection() {
        let mut first = pair(101, true, "");
        first.uuid = Some([1; 16]);
        let of_first = |nth: u32| {
            let id = STANDARD.encode([1; 16]);
            pair(101, false, &format!(r#"{{"partOfStreamUUID":"{id}","streamSeqNum":"{nth}"}}"#))
        };
        let wire = r#"{"netinfo":{"id":"7"}}"#;
        let pairs = [
            // The connection before it was upgraded.
            pair(200, false, wire),
            first,
            pair(101, true, wire),
            of_first(2),
            pair(101, false, wire),
            of_first(1),
            pair(200, false, ""),
        ];
        let sockets = Sockets::find(&Pairs::of(pairs.into(), Serve::All));
        assert_eq!((sockets.begins(1), sockets.begins(2)), (Some(0), Some(1)));
        assert_eq!((sockets.begins(0), sockets.has_message(0)), (None, false));
        assert_eq!((sockets.begins(6), sockets.has_message(6)), (None, false));
        let said: Vec<_> = sockets.messages.iter().map(|m| (m.connection, m.nth, m.at)).collect();
        assert_eq!(said, [(0, 2, 3), (1, 0, 4), (0, 1, 5)]);
        let alone = Pairs::of(vec![pair(101, false, wire)], Serve::All);
        assert_eq!(Sockets::find(&alone).roles.len(), 0);
    }
}
