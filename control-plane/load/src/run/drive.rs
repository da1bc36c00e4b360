//! One thread: its users, and what each does with a session.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{task::JoinSet, time::timeout};

use super::{
    Pattern, Shared,
    open::{self, Desk},
    wait,
};
use crate::{
    compare::{self, Answer},
    config::Think,
    connect::{Pool, SendError},
    measure::{Counts, Outcome, Shard},
    number::{count, float, seconds},
    recording::Step,
    schedule::Curve,
    state::{State, Writing},
};

/// The largest body that is read whole.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// What a responder says when nothing recorded answers.
const MISS: &str = "x-countersign-miss";
/// So many recorded sessions of one thread are under way at the most.
const MAX_SESSIONS: usize = 10_000;

/// What the users of a thread share.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) desk: Desk,
    shard: Arc<Shard>,
    pool: Pool,
    buffers: RefCell<Vec<BytesMut>>,
}

/// Drives this thread's part of the load.
pub(super) async fn thread(shared: &Arc<Shared>, shard: &Arc<Shard>, nth: usize, threads: usize) {
    let plan = &shared.plan;
    let worker = Rc::new(Worker {
        shared: Arc::clone(shared),
        desk: Desk::default(),
        shard: Arc::clone(shard),
        pool: Pool::new(plan.target.clone(), plan.protocol, plan.tls.clone()),
        buffers: RefCell::default(),
    });
    let mut users = JoinSet::new();
    match &plan.pattern {
        Pattern::Recorded { speed } => {
            recorded(&mut users, &worker, *speed, nth, threads).await;
        }
        Pattern::Users { users: curve, .. } => {
            let acts = |user: &usize| float(count(*user)) < curve.peak();
            for user in (nth..).step_by(threads).take_while(acts) {
                let (worker, curve) = (Rc::clone(&worker), curve.clone());
                users.spawn_local(async move { worker.user(&curve, user).await });
            }
        }
        Pattern::Rate { rate, users: most } => {
            let own = (nth..*most).step_by(threads).count();
            if own > 0 {
                open::dispatch(&mut users, &worker, rate, own).await;
            }
        }
    }
    tokio::select! {
        () = async { while users.join_next().await.is_some() {} } => {}
        () = shared.abandoned.cancelled() => {}
    }
}

/// Begins each session when it was recorded, iteration after iteration.
async fn recorded(
    users: &mut JoinSet<()>,
    worker: &Rc<Worker>,
    speed: f64,
    nth: usize,
    threads: usize,
) {
    let shared = &worker.shared;
    let length = seconds(shared.recording.summary.length.as_secs_f64() / speed);
    let room = Arc::new(tokio::sync::Semaphore::new(MAX_SESSIONS));
    for iteration in 0..shared.plan.iterations.unwrap_or(u64::MAX) {
        let times = u32::try_from(iteration).unwrap_or(u32::MAX);
        let base = shared.begin + length.saturating_mul(times);
        for session in (nth..shared.recording.sessions.len()).step_by(threads) {
            let all = &shared.recording.sessions;
            let Some(first) = all.get(session).and_then(|session| session.steps.first()) else {
                continue;
            };
            let moment = base + seconds(first.offset.as_secs_f64() / speed);
            if !wait::until(shared, moment).await {
                return;
            }
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            while users.try_join_next().is_some() {}
            let worker = Rc::clone(worker);
            users.spawn_local(async move {
                worker.session(session, When::Recorded { base, speed }).await;
                drop(place);
            });
        }
    }
}

/// When the requests of a session begin.
#[derive(Debug, Clone, Copy)]
enum When {
    Recorded {
        base: Instant,
        speed: f64,
    },
    Thinking(Think),
    /// When the rate says so.
    Due,
}

impl Worker {
    /// A user of a closed loop: one session after the other, as long as there are to be so many users.
    async fn user(&self, users: &Curve, nth: usize) {
        let shared = &self.shared;
        let Pattern::Users { think, .. } = shared.plan.pattern else { return };
        let own = float(count(nth));
        loop {
            let now = shared.elapsed();
            if users.at(now) <= own {
                let Some(next) = users.above(own, now) else { return };
                if !wait::until(shared, shared.begin + next).await {
                    return;
                }
                continue;
            }
            if shared.ended.is_cancelled() {
                return;
            }
            let Some(nth) = shared.session() else { return };
            self.session(self.place(nth), When::Thinking(think)).await;
        }
    }

    /// A user of an open loop: whole sessions, each request at its moment. Whether there was no further session.
    pub(super) async fn sessions(&self) -> bool {
        while !self.shared.ended.is_cancelled() {
            let Some(nth) = self.shared.session() else { return true };
            self.session(self.place(nth), When::Due).await;
        }
        false
    }

    fn place(&self, nth: u64) -> usize {
        usize::try_from(nth % self.shared.sessions().max(1)).unwrap_or_default()
    }

    async fn session(&self, nth: usize, when: When) {
        let Some(session) = self.shared.recording.sessions.get(nth) else { return };
        let mut state = State::new(session);
        let mut before: Option<&Step> = None;
        for step in &session.steps {
            let Some(moment) = self.moment(step, before, when).await else { return };
            self.step(step, &mut state, moment).await;
            before = Some(step);
        }
    }

    /// Waits until a step is to begin, and tells when that was; `None` when the run is over.
    async fn moment(&self, step: &Step, before: Option<&Step>, when: When) -> Option<Instant> {
        let shared = &self.shared;
        let moment = match when {
            When::Recorded { base, speed } => base + seconds(step.offset.as_secs_f64() / speed),
            When::Thinking(Think::None) => {
                return (!shared.ended.is_cancelled()).then(Instant::now);
            }
            When::Thinking(think) => {
                let pause = match (think, before) {
                    (Think::Fixed(pause), Some(_)) => pause,
                    (Think::Recorded(speed), Some(before)) => {
                        seconds(step.offset.saturating_sub(before.offset).as_secs_f64() / speed)
                    }
                    (_, None) | (Think::None, _) => Duration::ZERO,
                };
                Instant::now() + pause
            }
            When::Due => return self.desk.turn(shared).await,
        };
        if !wait::until(shared, moment).await {
            return None;
        }
        // Without a schedule there is nothing to be late for.
        Some(if matches!(when, When::Thinking(_)) { Instant::now() } else { moment })
    }

    async fn step(&self, step: &Step, state: &mut State<'_>, moment: Instant) {
        let shared = &self.shared;
        let plan = &shared.plan;
        let mut counts = Counts { requests: 1, ..Counts::default() };
        let writing = Writing {
            target: &plan.target,
            protocol: plan.protocol,
            keep_host: plan.keep_host,
            carry: plan.carry,
            headers: &plan.headers,
            generator: plan.generator.as_deref(),
            host: &shared.host,
            now: if step.admitted.is_empty() { 0 } else { now() },
        };
        let begin = Instant::now();
        let mut body = self.buffers.borrow_mut().pop().unwrap_or_default();
        body.clear();
        let reads = plan.compare || plan.checks.reads_bodies() || State::learns_from_body(step);
        let sent = match state.request(step, &writing, &mut counts.chains_failed) {
            Ok(request) => {
                match timeout(plan.timeout, self.exchange(request, reads, &mut body)).await {
                    Ok(sent) => sent,
                    Err(_) => Err(SendError::Timeout),
                }
            }
            Err(why) => Err(why),
        };
        let end = Instant::now();
        let mut outcome = Outcome {
            endpoint: step.endpoint,
            service: end - begin,
            response: end.saturating_duration_since(moment),
            counts,
            status: None,
            error: None,
            differences: Vec::new(),
        };
        match sent {
            Ok(answer) => {
                if plan.carry {
                    state.learn(step, &answer.headers, &body);
                }
                self.judge(step, state, &answer, &body, &mut outcome);
            }
            Err(why) => {
                outcome.error = Some(why.kind());
                self.lost(step, &mut outcome.counts);
            }
        }
        self.shard.note(outcome);
        self.buffers.borrow_mut().push(body);
    }

    /// What an answer that did not come counts as.
    fn lost(&self, step: &Step, counts: &mut Counts) {
        counts.errors = 1;
        counts.presented = u64::from(presents(step));
        if self.shared.plan.checks.any() {
            (counts.asserted, counts.failed) = (1, 1);
        }
        counts.compared = u64::from(self.shared.plan.compare);
    }

    fn judge(
        &self,
        step: &Step,
        state: &State<'_>,
        received: &Received,
        body: &[u8],
        outcome: &mut Outcome,
    ) {
        let Shared { plan, .. } = &*self.shared;
        let counts = &mut outcome.counts;
        let status = received.status;
        outcome.status = Some(status);
        counts.answered = 1;
        counts.bytes = received.bytes;
        counts.missed = u64::from(received.headers.contains_key(MISS));
        counts.errors = u64::from(status >= 400 && step.expected.status < 400);
        if presents(step) {
            counts.presented = 1;
            counts.accepted = u64::from(!matches!(status, 401 | 403));
        }
        if !plan.compare && !plan.checks.any() {
            return;
        }
        let trailers = received.trailers.as_ref();
        let answer = Answer { status, headers: &received.headers, trailers, body };
        if plan.checks.any() {
            outcome.differences = compare::differences(&plan.checks, step, state, &answer);
            counts.asserted = 1;
            counts.failed = u64::from(!outcome.differences.is_empty());
        }
        if plan.compare {
            counts.compared = 1;
            counts.own = u64::from(compare::is_own(&plan.checks, step, state, &answer));
        }
    }

    /// Sends a request and reads its answer. A connection that was closed while it was idle is no failure: the request goes out once more.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        reads: bool,
        body: &mut BytesMut,
    ) -> Result<Received, SendError> {
        let (mut connection, stale) = self.pool.take().await?;
        let copy = (stale && request.method().is_idempotent()).then(|| request.clone());
        let response = match connection.send(request).await {
            Ok(response) => response,
            Err((why, back)) => {
                let Some(again) = back.or(copy) else { return Err(why) };
                connection = self.pool.take().await?.0;
                connection.send(again).await.map_err(|(why, _)| why)?
            }
        };
        let received = read(response, reads, body).await?;
        self.pool.give(connection);
        Ok(received)
    }
}

/// The head of an answer, and what is known of its body.
struct Received {
    status: u16,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
    bytes: u64,
}

async fn read(
    response: Response<Incoming>,
    reads: bool,
    body: &mut BytesMut,
) -> Result<Received, SendError> {
    let (parts, mut stream) = response.into_parts();
    let mut received = Received {
        status: parts.status.as_u16(),
        headers: parts.headers,
        trailers: None,
        bytes: 0,
    };
    while let Some(frame) = stream.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                received.bytes = received.bytes.saturating_add(count(data.len()));
                if reads {
                    if body.len() + data.len() > MAX_BODY {
                        return Err(SendError::TooLarge);
                    }
                    body.extend_from_slice(&data);
                }
            }
            Err(frame) => received.trailers = frame.into_trailers().ok(),
        }
    }
    Ok(received)
}

/// Whether a service may refuse the token of a request that the recorded one did not refuse.
fn presents(step: &Step) -> bool {
    step.token && !matches!(step.expected.status, 401 | 403)
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
