//! Bodies that go through: frame by frame, within limits, and with a copy of the beginning for whoever records.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::{sync::mpsc, time::timeout};

use crate::server::body::Cut;

/// Frames that wait for the client.
pub(crate) const WAITING: usize = 8;

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most bytes.
    pub(crate) bytes: u64,
    /// How long it may pause.
    pub(crate) pause: Duration,
    /// So much of it is kept.
    pub(crate) kept: usize,
}

/// What went through.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// The beginning.
    pub(crate) kept: Bytes,
    /// There was more than that.
    pub(crate) cut: bool,
    pub(crate) trailers: Option<HeaderMap>,
    /// All of it went through.
    pub(crate) whole: bool,
}

/// Passes a body on until it ends, breaks, exceeds its bounds, or nobody takes it any more.
pub(crate) async fn pump<B>(
    mut body: B,
    sender: mpsc::Sender<Result<Frame<Bytes>, Cut>>,
    bounds: Bounds,
) -> Passed
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut passed = Passed::default();
    let mut kept = BytesMut::new();
    let mut left = bounds.bytes;
    loop {
        let frame = match timeout(bounds.pause, body.frame()).await {
            Ok(None) => {
                passed.whole = true;
                break;
            }
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) | Err(_) => {
                drop(sender.send(Err(Cut)).await);
                break;
            }
        };
        if let Some(data) = frame.data_ref() {
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let Some(rest) = left.checked_sub(size) else {
                drop(sender.send(Err(Cut)).await);
                break;
            };
            left = rest;
            let room = bounds.kept.saturating_sub(kept.len());
            let taken = data.get(..room.min(data.len())).unwrap_or_default();
            kept.extend_from_slice(taken);
            passed.cut |= taken.len() < data.len();
        }
        if let Some(trailers) = frame.trailers_ref() {
            passed.trailers = Some(trailers.clone());
        }
        if sender.send(Ok(frame)).await.is_err() {
            break;
        }
    }
    passed.kept = kept.freeze();
    passed
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn through(text: &'static str, bytes: u64, kept: usize) -> (Passed, Result<Bytes, Cut>) {
        let (sender, frames) = mpsc::channel(WAITING);
        let bounds = Bounds { bytes, pause: Duration::from_secs(20), kept };
        let pump =
            tokio::spawn(pump(Full::new(Bytes::from_static(text.as_bytes())), sender, bounds));
        let out = crate::server::body::Outgoing::Channel(frames);
        let body = out.collect().await.map(http_body_util::Collected::to_bytes);
        (pump.await.unwrap(), body)
    }

    #[tokio::test]
    async fn a_body_goes_through_and_its_beginning_is_kept() {
        let (passed, body) = through("abcdef", 100, 3).await;
        assert_eq!(body.unwrap(), "abcdef");
        assert_eq!((&*passed.kept, passed.cut, passed.whole), (&b"abc"[..], true, true));
        let (passed, body) = through("abc", 100, 3).await;
        assert_eq!(body.unwrap(), "abc");
        assert!(!passed.cut && passed.whole);
    }

    #[tokio::test]
    async fn a_body_beyond_its_bounds_is_cut() {
        let (passed, body) = through("abcdef", 5, 10).await;
        assert!(body.is_err() && !passed.whole);
    }
}
