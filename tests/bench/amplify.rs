//! What clients cost who want our time: the time that a responder computes for each, beside the time that the client has computed to ask for it, and how
//! much memory it takes at the most.
//!
//! The client is as cheap as one can be: it sends bytes that are made already, many requests in one write, and looks at nothing but where answers begin.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use harness::{floods::floods, frames, recording};
use serde_json::{Value, json};

use crate::{
    http::{contest::Verdict, stage::Stage},
    server,
};

/// Nobody may make us work for more than so many times what it took to ask.
const MOST: f64 = 100.0;
/// Memory may grow by so much, whatever is asked.
const GROWTH_MIB: f64 = 256.0;
/// How long a client waits for an answer that may not come.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Seconds of each way of asking.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// A way of asking.
struct Case {
    name: String,
    /// What is sent once, when a connection opens.
    first: Vec<u8>,
    /// What is sent again and again.
    bytes: Vec<u8>,
    /// How many answers come to it; none where it is a flood, in which answers do not matter.
    answers: usize,
}

/// Measures and prints.
#[expect(clippy::print_stdout, reason = "a bench prints its table")]
pub(crate) fn run(plan: Plan) -> anyhow::Result<Vec<Verdict>> {
    crate::refuse_debug()?;
    let stage = Stage::start(
        |out| (0..200).try_for_each(|nth| writeln!(out, "{}", recorded(nth))),
        &["--memory-limit-mib", "0"],
    )?;
    println!(
        "| way of asking | asked, a second | client, µs | responder, µs | times | memory, MiB more |\n|---|---|---|---|---|---|"
    );
    let mut worst = (0.0, String::new());
    let mut grown: f64 = 0.0;
    for case in cases()? {
        let pid = stage.responder.id();
        // The peak begins anew.
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let (before, memory) = (computed(pid)?, server::rss(pid)?);
        let own = computed(std::process::id())?;
        let begin = Instant::now();
        let mut asked = 0_u32;
        while begin.elapsed().as_secs_f64() < plan.seconds {
            asked += connection(stage.data()?, &case, begin, plan.seconds)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let own = computed(std::process::id())?.saturating_sub(own);
        // What was asked for may still be worked on.
        let mut theirs = computed(pid)?;
        loop {
            thread::park_timeout(PATIENCE);
            let now = computed(pid)?;
            if now.saturating_sub(theirs) < PATIENCE / 20 {
                break;
            }
            theirs = now;
        }
        let theirs = theirs.saturating_sub(before);
        let times = theirs.as_secs_f64() / own.as_secs_f64();
        let more = f64::from(server::peak(pid)?.saturating_sub(memory)) / 1024.0;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(asked.max(1));
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {times:.1} | {more:.1} |",
            case.name,
            f64::from(asked) / seconds,
            each(own),
            each(theirs),
        );
        if times > worst.0 {
            worst = (times, case.name);
        }
        grown = grown.max(more);
    }
    Ok(vec![
        Verdict {
            row: "R11 time".to_owned(),
            goal: format!("≤ {MOST} ×"),
            measured: format!("{:.1} × ({})", worst.0, worst.1),
            passed: Some(worst.0 <= MOST),
        },
        Verdict {
            row: "R11 memory".to_owned(),
            goal: format!("≤ {GROWTH_MIB} MiB"),
            measured: format!("{grown:.1} MiB"),
            passed: Some(grown <= GROWTH_MIB),
        },
    ])
}

/// Asks on one connection until it is closed or the time is over; how often.
fn connection(server: SocketAddr, case: &Case, begin: Instant, seconds: f64) -> io::Result<u32> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 256 * 1024];
    if stream.write_all(&case.first).is_err() {
        return Ok(0);
    }
    let mut asked = 0;
    while begin.elapsed().as_secs_f64() < seconds {
        if stream.write_all(&case.bytes).is_err() {
            break;
        }
        asked += 1;
        if case.answers == 0 {
            // Answers are taken, so that nobody waits for us.
            stream.set_nonblocking(true)?;
            let ended = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
                }
            };
            stream.set_nonblocking(false)?;
            if ended {
                break;
            }
        } else if !answered(&mut stream, &mut buffer, case.answers) {
            break;
        }
    }
    Ok(asked)
}

/// Reads so many answers; whether all of them came.
fn answered(stream: &mut TcpStream, buffer: &mut [u8], mut answers: usize) -> bool {
    const BEGINS: &[u8] = b"HTTP/1.1 ";
    while answers > 0 {
        let Ok(read @ 1..) = stream.read(buffer) else { return false };
        let bytes = buffer.get(..read).unwrap_or_default();
        let begun = bytes.windows(BEGINS.len()).filter(|window| *window == BEGINS).count();
        answers = answers.saturating_sub(begun);
    }
    true
}

/// The time that all threads of a process have computed.
fn computed(pid: u32) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended meanwhile.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// A recorded pair whose request has a body, so that live bodies are looked into, and whose answer has a token.
fn recorded(nth: usize) -> Value {
    let token = recording::old_token("ES256", &json!({"sub": format!("user-{nth}")}));
    let line = recording::line("POST", "/asked", &json!({"access_token": token}));
    let mut line: Value = serde_json::from_str(&line).unwrap_or_default();
    let body = json!({"id": nth, "list": ["a", "b", {"c": nth}], "text": "x".repeat(100)});
    if let Some(Value::Object(request)) = line.pointer_mut("/http/req") {
        request.insert("bodyBase64".to_owned(), STANDARD.encode(body.to_string()).into());
        let headers = json!({"Host": ["api.example"], "Content-Type": ["application/json"]});
        request.insert("headers".to_owned(), headers);
    }
    line
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let mut cases = heads();
    cases.extend(bodies()?);
    cases.extend(floods().into_iter().map(|flood| Case {
        name: format!("HTTP/2: {}", flood.name),
        first: [frames::opening(), flood.first].concat(),
        bytes: (0..100).flat_map(&flood.piece).collect(),
        answers: 0,
    }));
    Ok(cases)
}

/// So many of a request in one write.
fn asked(name: &str, times: usize, head: &str, body: &[u8]) -> Case {
    let mut one = format!("{head}Host: api.example\r\n").into_bytes();
    if !body.is_empty() {
        one.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
    }
    one.extend(b"\r\n");
    one.extend(body);
    Case { name: name.to_owned(), first: Vec::new(), bytes: one.repeat(times), answers: times }
}

fn heads() -> Vec<Case> {
    let get = |more: &str| format!("GET /nothing HTTP/1.1\r\n{more}");
    let many =
        |count: usize, one: &dyn Fn(usize) -> String| -> String { (0..count).map(one).collect() };
    let token = recording::old_token("ES256", &json!({"sub": "user", "text": "x".repeat(500)}));
    let fields = many(90, &|nth| format!("X-Field-{nth}: {}\r\n", "v".repeat(500)));
    let tokens = many(60, &|nth| format!("X-Token-{nth}: {token}\r\n"));
    let query = many(8_000, &|nth| format!("p{nth}=1&"));
    let cookies = many(4_000, &|nth| format!("c{nth}={nth}; "));
    let segments = many(10_000, &|_| "a/".to_owned());
    vec![
        asked("nothing recorded", 64, &get(""), b""),
        asked("90 fields", 8, &get(&fields), b""),
        asked("60 tokens", 8, &get(&tokens), b""),
        asked(
            "a bearer token of 60 KB",
            4,
            &get(&format!("Authorization: Bearer a.{}.b\r\n", "x".repeat(60_000))),
            b"",
        ),
        asked("4,000 cookies", 4, &get(&format!("Cookie: {cookies}\r\n")), b""),
        asked("8,000 parameters", 4, &format!("GET /nothing?{query} HTTP/1.1\r\n"), b""),
        asked("a path of 10,000 segments", 4, &format!("GET /{segments} HTTP/1.1\r\n"), b""),
        asked("escapes", 4, &format!("GET /{} HTTP/1.1\r\n", "%41".repeat(15_000)), b""),
        asked("a head that is too large", 1, &get(&format!("X: {}\r\n", "x".repeat(70_000))), b""),
        asked("two lengths", 1, &get("Content-Length: 1\r\nContent-Length: 2\r\n"), b""),
        asked("no request", 1, "no request at all\r\n", b""),
        Case {
            name: "connections that say nothing".to_owned(),
            first: b"G".to_vec(),
            bytes: b"G".to_vec(),
            answers: 1,
        },
    ]
}

fn bodies() -> anyhow::Result<Vec<Case>> {
    let post =
        |more: &str| format!("POST /asked HTTP/1.1\r\nContent-Type: application/json\r\n{more}");
    let list = |count: usize, one: &dyn Fn(usize) -> String| -> String {
        (0..count).map(one).collect::<Vec<_>>().join(",")
    };
    let members = format!("{{{}}}", list(100_000, &|nth| format!("\"member-{nth}\":{nth}")));
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let deeper = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let form: String = (0..100_000).map(|nth| format!("f{nth}=1&")).collect();
    let escapes = format!("\"{}\"", "\\u0041".repeat(100_000));
    let zeros = format!("[{}]", list(900_000, &|_| "0".to_owned()));
    let gzip = |text: &str| -> anyhow::Result<Vec<u8>> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(text.as_bytes())?;
        Ok(packer.finish()?)
    };
    let ones: Vec<u8> = b"1\r\nx\r\n".repeat(50_000);
    let chunked = [
        b"POST /asked HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        &ones[..],
        b"0\r\n\r\n",
    ]
    .concat();
    Ok(vec![
        asked(
            "a recorded body",
            64,
            &post(""),
            json!({"id": 7, "list": ["a", "b", {"c": 7}], "text": "x".repeat(100)})
                .to_string()
                .as_bytes(),
        ),
        asked("another body", 64, &post(""), b"{\"id\":\"none\"}"),
        asked("100,000 members", 1, &post(""), members.as_bytes()),
        asked("120 levels", 64, &post(""), deep.as_bytes()),
        asked("100,000 levels", 1, &post(""), deeper.as_bytes()),
        asked("escapes in a text", 1, &post(""), escapes.as_bytes()),
        asked("9 MB of text", 1, &post(""), &vec![b'x'; 9_000_000]),
        asked(
            "100,000 fields of a form",
            1,
            "POST /asked HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            form.as_bytes(),
        ),
        asked("JSON, packed 200 times", 16, &post("Content-Encoding: gzip\r\n"), &gzip(&zeros)?),
        asked(
            "spaces, packed beyond measure",
            16,
            &post("Content-Encoding: gzip\r\n"),
            &gzip(&" ".repeat(60_000_000))?,
        ),
        Case {
            name: "50,000 chunks of a byte".to_owned(),
            first: Vec::new(),
            bytes: chunked,
            answers: 1,
        },
        asked("a body that does not come", 1, &post("Expect: 100-continue\r\n"), b"x"),
    ])
}
