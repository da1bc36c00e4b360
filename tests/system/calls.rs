//! gRPC and its streams, served from a recording to stock clients that know the messages: a server as those of the interoperability tests
//! is recorded, frame by frame, and played back to tonic, to grpcio, to grpc-js, and as gRPC-Web to connect.

mod dialogues;

use std::{fs, path::Path, slice};

use harness::{
    notice,
    process::Process,
    python::{self, Ask},
    recording,
    scripts::Script,
};
use prost::Message;
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{clients::trust, tls::authority};

const SERVICE: &str = "/grpc.testing.TestService";
const KEY: &str = "a secret that is long enough to sign with";
/// Larger than what most clients take without being told.
const LARGE: usize = 5 * 1024 * 1024;

#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

/// What all calls send.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(int32, repeated, tag = "1")]
    sizes: Vec<i32>,
    #[prost(message, optional, tag = "3")]
    payload: Option<Payload>,
    #[prost(string, tag = "4")]
    token: String,
}

/// What all calls answer.
#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(message, optional, tag = "1")]
    payload: Option<Payload>,
    #[prost(string, tag = "2")]
    username: String,
    #[prost(int32, tag = "3")]
    aggregated: i32,
    #[prost(string, tag = "4")]
    token: String,
}

fn payload(size: usize) -> Option<Payload> {
    Some(Payload { kind: 1, body: vec![0x80; size] })
}

fn asked(size: usize, sizes: &[i32]) -> Asked {
    Asked { sizes: sizes.to_vec(), payload: payload(size), ..Asked::default() }
}

fn answered(size: usize) -> Answered {
    Answered { payload: payload(size), ..Answered::default() }
}

fn frames<M: Message>(messages: &[M]) -> Vec<u8> {
    let frame = |message: &M| {
        let bytes = message.encode_to_vec();
        [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes].concat()
    };
    messages.iter().flat_map(frame).collect()
}

fn old_token(user: &str) -> String {
    recording::old_token("HS256", &json!({"sub": user, "iat": 1_700_000_000, "exp": 1_700_000_600}))
}

/// What the server of the interoperability tests would have answered, recorded.
fn recorded() -> String {
    let ok = json!({"grpc-status": ["0"], "x-grpc-test-echo-trailing-bin": ["q6ur"]});
    let plain = json!({"answered": {"x-grpc-test-echo-initial": ["test_initial_metadata_value"]}});
    let call = |method: &str, asked: &[Asked], answered: &[Answered], end: &Value| {
        let path = format!("{SERVICE}/{method}");
        recording::call(&path, &frames(asked), &frames(answered), &plain, end)
    };
    let sizes = [31415, 9, 2653, 58979];
    let streamed: Vec<Answered> = [31415, 9, 2653, 58979].map(answered).to_vec();
    let sent = [27182, 8, 1828, 45904].map(|size| asked(size, &[]));
    let talked: Vec<Asked> = [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]
        .map(|(size, wanted)| asked(size, &[wanted]))
        .to_vec();
    let login = Answered { token: old_token("alice"), ..Answered::default() };
    let mut lines = vec![
        call("EmptyCall", &[Asked::default()], &[Answered::default()], &ok),
        call("UnaryCall", &[asked(271_828, &[314_159])], &[answered(314_159)], &ok),
        call("UnaryCall", &[asked(LARGE, &[1])], &[answered(LARGE)], &ok),
        call("StreamingOutputCall", &[asked(0, &sizes)], &streamed, &ok),
        call(
            "StreamingInputCall",
            &sent,
            &[Answered { aggregated: 74922, ..Answered::default() }],
            &ok,
        ),
        call("FullDuplexCall", &talked, &streamed, &ok),
        call("HalfDuplexCall", &talked[..2], &streamed[..2], &ok),
        call("CutCall", &talked[..2], &streamed[..2], &ok),
        call(
            "UnaryCall",
            &[asked(2, &[])],
            &[],
            &json!({"grpc-status": ["2"], "grpc-message": ["test status message %E2%98%BA"], "grpc-status-details-bin": ["CAISAWE"]}),
        ),
        call("Login", &[asked(1, &[])], slice::from_ref(&login), &ok),
        call("StreamingLogin", &[asked(1, &[]), asked(2, &[])], &[login], &ok),
    ];
    for user in ["alice", "bob"] {
        let mine = Answered { username: user.to_owned(), ..Answered::default() };
        let metadata = json!({"asked": {"authorization": [format!("Bearer {}", old_token(user))]}});
        let path = format!("{SERVICE}/Me");
        let (asked, answered) = (frames(&[Asked::default()]), frames(&[mine]));
        lines.push(recording::call(&path, &asked, &answered, &metadata, &ok));
    }
    lines.join("\n")
}

fn serve(dir: &Path, rules: &[&str]) -> Process {
    fs::write(dir.join("calls.jsonl"), recorded()).unwrap();
    let chain = |method: &str| {
        json!({
            "filters": {"filters": [{"include": true, "detectedLocation": format!("{SERVICE}/{method}")}]},
            "extractor": {"type": "res_body"},
            "transforms": [{"type": "json_path", "config": {"path": "4:LEN"}},
                {"type": "jwt_resign", "config": {"secretPath": "${{secret:jwt-demo/k}}"}}]
        })
    };
    let template = json!({"id": "t", "responder": [chain("Login"), chain("StreamingLogin")]});
    fs::write(dir.join("t.json"), template.to_string()).unwrap();
    let secrets = recording::secret_dir(dir, "k", KEY.as_bytes());
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (calls, template, secrets) =
        (path("calls.jsonl"), path("t.json"), secrets.to_string_lossy().into_owned());
    let ca = authority(dir);
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--tls-ca", &ca];
    let files = ["dev", &calls, "--transform", &template, "--secret-dir", &secrets];
    let chaos = rules.iter().flat_map(|rule| ["--chaos", *rule]);
    Process::start("countersign", files.into_iter().chain(listen).chain(chaos))
}

type Client = Grpc<Channel>;
type Messages = ProstCodec<Asked, Answered>;

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("{SERVICE}/{method}").parse().unwrap()
}

async fn unary(
    client: &mut Client,
    method: &str,
    asked: Request<Asked>,
) -> Result<tonic::Response<Answered>, Status> {
    client.ready().await.unwrap();
    client.unary(asked, path(method), Messages::default()).await
}

async fn all(mut answers: tonic::Streaming<Answered>) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        sizes.push(answer.payload.map_or(0, |payload| payload.body.len()));
    }
    sizes
}

#[tokio::test]
async fn a_recorded_server_is_played_back_to_tonic() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path(), &[]);
    let address = dev.address("data").await;
    let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
    let mut client: Client = Grpc::new(endpoint.connect().await.unwrap())
        .max_decoding_message_size(2 * LARGE)
        .max_encoding_message_size(2 * LARGE);

    let answer = unary(&mut client, "EmptyCall", Request::new(Asked::default())).await.unwrap();
    assert_eq!(answer.get_ref(), &Answered::default());
    let metadata = answer.metadata();
    assert_eq!(metadata.get("x-grpc-test-echo-initial").unwrap(), "test_initial_metadata_value");
    let bin = metadata.get_bin("x-grpc-test-echo-trailing-bin").unwrap();
    assert_eq!(bin.to_bytes().unwrap(), &b"\xab\xab\xab"[..]);

    for (size, wanted) in [(271_828, 314_159), (LARGE, LARGE)] {
        let sizes = if size == LARGE { vec![1] } else { vec![314_159] };
        let asked = Request::new(asked(size, &sizes));
        let answer = unary(&mut client, "UnaryCall", asked).await.unwrap().into_inner();
        assert_eq!(answer.payload.unwrap().body.len(), wanted);
    }
    let status = unary(&mut client, "UnaryCall", Request::new(asked(2, &[]))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "test status message \u{263a}"));
    assert_eq!(status.details(), b"\x08\x02\x12\x01a");
    let status = unary(&mut client, "UnaryCall", Request::new(asked(3, &[]))).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let never = unary(&mut client, "UnimplementedCall", Request::new(Asked::default())).await;
    assert_eq!(never.unwrap_err().code(), Code::Unimplemented);

    client.ready().await.unwrap();
    let sizes = Request::new(asked(0, &[31415, 9, 2653, 58979]));
    let down = client.server_streaming(sizes, path("StreamingOutputCall"), Messages::default());
    assert_eq!(all(down.await.unwrap().into_inner()).await, [31415, 9, 2653, 58979]);

    client.ready().await.unwrap();
    let sent = tokio_stream::iter([27182, 8, 1828, 45904].map(|size| asked(size, &[])));
    let up = Request::new(sent);
    let up = client.client_streaming(up, path("StreamingInputCall"), Messages::default());
    assert_eq!(up.await.unwrap().into_inner().aggregated, 74922);

    ping_pong(&mut client).await;
    tokens(&mut client).await;
}

/// Each message waits for the answer to the one before.
async fn ping_pong(client: &mut Client) {
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    client.ready().await.unwrap();
    say.send(asked(27182, &[31415])).await.unwrap();
    let call = client.streaming(said, path("FullDuplexCall"), Messages::default());
    let mut answers = call.await.unwrap().into_inner();
    for (wanted, next) in [
        (31415, Some((8, 9))),
        (9, Some((1828, 2653))),
        (2653, Some((45904, 58979))),
        (58979, None),
    ] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.payload.unwrap().body.len(), wanted);
        if let Some((size, wanted)) = next {
            say.send(asked(size, &[wanted])).await.unwrap();
        }
    }
    assert_eq!(answers.message().await.unwrap(), None);
}

/// Logs in, and calls on as somebody who has a fresh token.
async fn tokens(client: &mut Client) {
    let login = unary(client, "Login", Request::new(asked(1, &[]))).await.unwrap().into_inner();
    let ask = Ask { token: login.token.clone(), key: KEY.to_owned(), alg: "HS256".to_owned() };
    assert_eq!(python::verify(&[ask]).remove(0).unwrap()["sub"], "alice");
    let bob = recording::old_token("HS256", &json!({"sub": "bob", "iat": 1_800_000_000}));
    for (user, token) in [("bob", &bob), ("alice", &login.token), ("bob", &bob)] {
        let mut asked = Request::new(Asked::default());
        let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        asked.metadata_mut().insert("authorization", bearer);
        assert_eq!(unary(client, "Me", asked).await.unwrap().into_inner().username, user);
    }
}

/// Calls without any knowledge of messages, as bytes; sizes of answers are told.
const GRPCIO: &str = r#"
import grpc, sys
address, service = sys.argv[1:3]
raw = dict(request_serializer=bytes, response_deserializer=bytes)
def varint(n):
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def field(number, value): return varint(number << 3 | 2) + varint(len(value)) + value
def asked(size, sizes=()):
    # Fields come in another order than they were recorded in.
    body = field(2, b"\x80" * size) if size else b""
    packed = field(1, b"".join(map(varint, sizes))) if sizes else b""
    return field(3, body + b"\x08\x01") + packed
options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
with grpc.insecure_channel(address, options) as channel:
    unary = channel.unary_unary(service + "/UnaryCall", **raw)
    answer, call = unary.with_call(asked(271828, [314159]), timeout=20)
    assert len(answer) > 314159, len(answer)
    assert dict(call.initial_metadata())["x-grpc-test-echo-initial"] == "test_initial_metadata_value"
    assert dict(call.trailing_metadata())["x-grpc-test-echo-trailing-bin"] == b"\xab\xab\xab"
    assert len(unary(asked(5 << 20, [1]), timeout=20)) > 5 << 20
    folded = channel.unary_unary(service + "/UnaryCall", **raw)
    assert len(folded(asked(271828, [314159]), timeout=20, compression=grpc.Compression.Gzip)) > 314159
    def ends(call, *arguments):
        try: call(*arguments, timeout=20)
        except grpc.RpcError as error: return error
        raise AssertionError("the call ended well")
    error = ends(unary, asked(2))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "test status message \u263a"), error
    assert ends(unary, asked(3)).code() == grpc.StatusCode.NOT_FOUND
    never = channel.unary_unary(service + "/UnimplementedCall", **raw)
    assert ends(never, b"").code() == grpc.StatusCode.UNIMPLEMENTED
    down = channel.unary_stream(service + "/StreamingOutputCall", **raw)
    sizes = [31415, 9, 2653, 58979]
    answers = [len(answer) for answer in down(asked(0, sizes), timeout=20)]
    assert len(answers) == 4 and all(got > size for got, size in zip(answers, sizes)), answers
    up = channel.stream_unary(service + "/StreamingInputCall", **raw)
    assert len(up(map(asked, [27182, 8, 1828, 45904]), timeout=20)) > 0
    import queue
    say = queue.Queue()
    talk = channel.stream_stream(service + "/FullDuplexCall", **raw)(iter(say.get, None), timeout=20)
    for size, wanted in zip([27182, 8, 1828, 45904], sizes):
        say.put(asked(size, [wanted]))
        assert len(next(talk)) > wanted
    assert list(talk) == []
    say.put(None)
    assert talk.code() == grpc.StatusCode.OK
print("fine")
"#;

#[tokio::test]
async fn a_recorded_server_is_played_back_to_grpcio() {
    let Some(python) = python::with("grpc") else {
        return notice("no Python with grpcio, gRPC is tried with tonic alone");
    };
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path(), &[]);
    let address = dev.address("data").await.to_string();
    let run = tokio::task::spawn_blocking(move || {
        std::process::Command::new(python).args(["-c", GRPCIO, &address, SERVICE]).output().unwrap()
    });
    let out = run.await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "fine");
}

#[tokio::test]
async fn a_recorded_server_is_played_back_to_grpc_js() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/clients/calls.mjs");
    let Some(script) = Script::node("Node.js with @grpc/grpc-js", &path) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path(), &[]);
    let address = dev.address("data").await.to_string();
    let plan = json!({"address": address, "service": SERVICE, "key": KEY});
    assert_eq!(script.run(&plan), json!({"fine": true}));
}

#[tokio::test]
async fn a_recorded_server_is_played_back_to_pages() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("system/clients/web.mjs");
    let Some(script) = Script::node("Node.js with connect", &path) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut dev = serve(dir.path(), &[]);
    let address = dev.address("data").await;
    let bases = [format!("http://{address}"), format!("https://{address}")];
    let plan = json!({"bases": bases, "service": SERVICE, "key": KEY});
    let script = script.after(dir.path(), &trust::lines("Node.js"));
    let streamed = json!({"http: 1.1": 4, "http: 2": 4, "https: 1.1": 4, "https: 2": 4});
    assert_eq!(script.run(&plan), streamed);
}
