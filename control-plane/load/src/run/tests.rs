//! Runs against servers in this process.

use std::{convert::Infallible, net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::TcpListener;

use super::*;
use crate::{
    goal::Metric,
    recording::tests::{pair, recording, token},
    schedule::Stage,
};

/// What a server has heard: method, target, authorization, body.
type Heard = Arc<Mutex<Vec<String>>>;

/// Runs what a connection needs on this thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}

/// Serves what a function makes of requests.
async fn serve<F>(answer: F) -> SocketAddr
where
    F: AsyncFn(Request<Bytes>) -> Response<Full<Bytes>> + Clone + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    Ok::<_, Infallible>(answer(Request::from_parts(parts, body)).await)
                }
            });
            drop(tokio::task::spawn_local(async move {
                let builder = auto::Builder::new(Here);
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            }));
        }
    }));
    address
}

fn plan(address: SocketAddr, pattern: Pattern) -> Plan {
    Plan {
        target: Target::parse(&format!("http://{address}")).unwrap(),
        protocol: Protocol::Http1,
        tls: None,
        pattern,
        duration: None,
        iterations: Some(1),
        timeout: Duration::from_secs(20),
        checks: Checks { status: true, body: true, ..Checks::default() },
        compare: true,
        carry: true,
        keep_host: false,
        headers: Vec::new(),
        generator: None,
        threads: 2,
    }
}

fn users(count: f64) -> Pattern {
    Pattern::Users { users: Curve::constant(count), think: Think::None }
}

async fn drive(plan: Plan, recording: Recording) -> Totals {
    run(plan, Arc::new(recording), CancellationToken::new(), |_| {}).await.unwrap()
}

fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A service that gives each user a fresh token and refuses every other one.
async fn login_service(fresh: bool, heard: Heard) -> SocketAddr {
    serve(async move |request: Request<Bytes>| {
        let text = String::from_utf8_lossy(request.body()).into_owned();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let bearer =
            request.headers().get("authorization").map(|it| it.to_str().unwrap().to_owned());
        heard.lock().unwrap().push(format!("{method} {path} {text}"));
        let mark = if fresh { "fresh" } else { "old" };
        let (status, body) = if path == "/login" {
            (200, format!(r#"{{"access_token":"{}"}}"#, token(&text, mark)))
        } else {
            let known = ["ann", "bob"].map(|user| format!("Bearer {}", token(user, "fresh")));
            match bearer.filter(|bearer| known.contains(bearer)) {
                Some(bearer) => (200, format!(r#"{{"of":"{}"}}"#, bearer.len())),
                None => (401, "{}".to_owned()),
            }
        };
        Response::builder().status(status).body(Full::new(body.into())).unwrap()
    })
    .await
}

fn logins() -> Recording {
    let mut pairs = Vec::new();
    for user in ["ann", "bob"] {
        let old = token(user, "old");
        let bearer = format!("Bearer {old}");
        // A fresh token is longer.
        let own = format!(r#"{{"of":"{}"}}"#, bearer.len() + 3);
        let login = format!(r#"{{"access_token":"{old}"}}"#);
        pairs.push(pair("POST /login", &[], user, (200, &[], &login)));
        pairs.push(pair("GET /me", &[("Authorization", &bearer)], "", (200, &[], &own)));
        pairs.push(pair("GET /me", &[("Authorization", &bearer)], "", (200, &[], &own)));
    }
    recording(pairs)
}

#[test]
fn follow_ups_carry_the_token_of_their_own_login() {
    local(async {
        for (fresh, accepted) in [(true, 4), (false, 0)] {
            let heard = Heard::default();
            let address = login_service(fresh, Arc::clone(&heard)).await;
            let totals = drive(plan(address, users(2.0)), logins()).await;
            let counts = totals.counts;
            assert_eq!((counts.requests, counts.presented, counts.accepted), (6, 4, accepted));
            assert_eq!(
                (counts.own, counts.failed, counts.errors),
                (2 + accepted, 4 - accepted, 4 - accepted)
            );
            assert_eq!(heard.lock().unwrap().len(), 6);
            let refused =
                totals.findings.keys().map(|(_, one)| one.at.as_str()).collect::<Vec<_>>();
            assert_eq!(refused, if fresh { vec![] } else { vec!["401 instead of 200"] });
        }
    });
}

#[test]
fn every_pattern_goes_through_the_recording_as_often_as_it_should() {
    local(async {
        let rate = Pattern::Rate { rate: Curve::constant(500.0), users: 8 };
        let fast = Pattern::Recorded { speed: 100.0 };
        for (pattern, http2) in
            [(users(3.0), false), (users(3.0), true), (rate, false), (fast, true)]
        {
            let heard = Heard::default();
            let address = login_service(true, Arc::clone(&heard)).await;
            let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
            let plan = Plan { iterations: Some(3), protocol, ..plan(address, pattern.clone()) };
            let counts = drive(plan, logins()).await.counts;
            assert_eq!((counts.requests, counts.own, counts.accepted), (18, 18, 12), "{pattern:?}");
        }
    });
}

/// A server that stalls once, for everybody: honest figures show it, the service time of a closed loop would not.
#[test]
fn a_stall_is_in_the_response_time_of_every_request_that_was_due() {
    const STALL: Duration = Duration::from_secs(2);
    local(async {
        let first = Arc::new(Mutex::new(None::<Instant>));
        let address = serve(async move |_: Request<Bytes>| {
            let begin = *first.lock().unwrap().get_or_insert_with(Instant::now);
            // Half a second of good answers, then none until the stall is over.
            let since = begin.elapsed();
            let stall = Duration::from_millis(500);
            if since > stall && since < stall + STALL {
                tokio::time::timeout(stall + STALL - since, std::future::pending::<()>())
                    .await
                    .ok();
            }
            Response::new(Full::new(Bytes::from_static(b"ok")))
        })
        .await;
        let rate = Curve::new(Stage::hold(Duration::from_secs(4), 200.0).into());
        let plan = Plan {
            iterations: None,
            duration: Some(Duration::from_secs(4)),
            // So few that the stall holds all of them up, and nothing else is sent.
            ..plan(address, Pattern::Rate { rate, users: 2 })
        };
        let totals = drive(plan, recording(vec![pair("GET /", &[], "", (200, &[], "ok"))])).await;
        let ms = |metric: Metric| metric.of(&totals).unwrap();
        let stall = STALL.as_secs_f64() * 1000.0;
        assert!(totals.counts.requests > 500, "{:?}", totals.counts);
        // Two of hundreds saw the stall; but four hundred were due in it, and waited a second on average.
        assert!(ms(Metric::Service(0.99)) < stall / 4.0, "{}", ms(Metric::Service(0.99)));
        assert!(ms(Metric::Response(0.99)) > stall * 0.8, "{}", ms(Metric::Response(0.99)));
        assert!(ms(Metric::Response(0.75)) > stall / 4.0, "{}", ms(Metric::Response(0.75)));
        assert!(ms(Metric::Longest) > stall * 0.9);
    });
}

#[test]
fn requests_without_an_answer_are_told_by_kind() {
    local(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let totals = drive(plan(free, users(1.0)), logins()).await;
        assert_eq!((totals.counts.errors, totals.counts.answered), (6, 0));
        assert_eq!(totals.errors.into_iter().collect::<Vec<_>>(), [("connect", 6)]);
        let silent = serve(async |_: Request<Bytes>| std::future::pending().await).await;
        let plan = Plan { timeout: Duration::from_millis(50), ..plan(silent, users(2.0)) };
        let totals = drive(plan, logins()).await;
        assert_eq!(totals.errors.into_iter().collect::<Vec<_>>(), [("timeout", 6)]);
        // What was waited for in vain counts.
        assert!(totals.response.min() >= 49_000, "{}", totals.response.min());
        assert_eq!(Metric::TokenAcceptance.of(&Totals { errors: [].into(), ..totals }), Some(0.0));
    });
}

#[test]
fn whoever_stops_a_run_gets_what_was_measured() {
    local(async {
        let address = login_service(true, Heard::default()).await;
        let stop = CancellationToken::new();
        let plan = Plan { iterations: None, ..plan(address, users(2.0)) };
        let mut looked = 0;
        let watch = |progress: &Progress| {
            looked += 1;
            assert!(progress.counts.requests > 0 && progress.last.requests > 0);
            stop.cancel();
        };
        let totals = run(plan, Arc::new(logins()), stop.clone(), watch).await.unwrap();
        assert_eq!(looked, 1);
        assert_eq!(totals.counts.own, totals.counts.requests);
        assert!(!totals.seconds.is_empty());
    });
}

#[test]
fn stages_of_users_come_and_go() {
    local(async {
        let address = login_service(true, Heard::default()).await;
        let stage = |millis, to| Stage { duration: Duration::from_millis(millis), to };
        let users = Curve::new(vec![stage(300, 4.0), stage(100, 4.0), stage(100, 0.0)]);
        let duration = Some(users.duration());
        let pattern = Pattern::Users { users, think: Think::Fixed(Duration::from_millis(5)) };
        let totals =
            drive(Plan { iterations: None, duration, ..plan(address, pattern) }, logins()).await;
        assert!(totals.counts.requests > 4, "{:?}", totals.counts);
        assert_eq!(totals.counts.own, totals.counts.requests);
    });
}
