//! Pages of pairs. In recorded order a page begins at any position; with a filter chunks are read one after the other, and a page ends after a moment
//! whatever it has found, so that no filter holds anybody up.

use std::time::{Duration, Instant};

use countersign_engine::{
    request::without_port,
    snapshot::{Direction, RrPair, header, wire::timestamp},
    transform::PairFilter,
};
use countersign_proto::{
    control::v1::{ListPairsRequest, ListPairsResponse, PairRow},
    snapshot::v1 as proto,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Traffic;
use crate::{
    content::{self, ChunkRef, ContentError, Manifest},
    service::{Problem, name::Name, page, snapshot, wire},
    store::{self, Kind},
};

/// A page of filtered pairs ends after so long.
const MOMENT: Duration = Duration::from_millis(150);
/// Chunks that are read at the same time.
const TOGETHER: usize = 8;
/// Longer paths are cut in lists.
const MAX_PATH: usize = 512;

impl Traffic {
    pub(super) async fn list(
        &self,
        request: ListPairsRequest,
    ) -> Result<ListPairsResponse, Problem> {
        let name = Name::parse(Kind::Snapshot, "parent", &request.parent)?;
        let limit = page::size(request.page_size)?;
        let filter = filter(&request.filter)?;
        let (_, digest) = snapshot::ready(&self.plane, &name).await?;
        let _turn = self.plane.look(&name.project).await?;
        let manifest = self.manifest(digest).await?;
        // A token does not survive other content of the same name, nor another filter.
        let list = format!("{}@{digest}?{}", name.full, request.filter);
        let after = page::after(&list, &request.page_token)?;
        let (pairs, next, scanned, diagnostics) = match filter {
            None => {
                let start = after.parse().unwrap_or(request.start_ordinal);
                let (pairs, next) = self.recorded(&manifest, start, limit).await?;
                let scanned = next.unwrap_or_else(|| manifest.pairs());
                (pairs, next.map(|next| next.to_string()), scanned, Vec::new())
            }
            Some((filter, findings)) => {
                let found =
                    self.filtered(&manifest, filter, Position::parse(&after), limit).await?;
                (found.pairs, found.next.map(Position::print), found.scanned, findings)
            }
        };
        Ok(ListPairsResponse {
            pairs,
            next_page_token: next.map(|next| page::token(&list, &next)).unwrap_or_default(),
            total_pairs: manifest.pairs(),
            scanned_pairs: scanned,
            diagnostics: wire::encode_diagnostics(&diagnostics),
        })
    }

    /// Pairs are numbered without gaps, but lie by endpoint: each page is picked out of the chunks that hold some of it.
    async fn recorded(
        &self,
        manifest: &Manifest,
        start: u64,
        limit: usize,
    ) -> Result<(Vec<PairRow>, Option<u64>), Problem> {
        let end = start.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
        let end = end.min(manifest.pairs());
        let wanted = start..end;
        let chunks = manifest.chunks.iter().filter(|chunk| chunk.may_hold(&wanted));
        let read = stream::iter(chunks.cloned().collect::<Vec<_>>())
            .map(|chunk| self.rows(chunk, wanted.clone()));
        let rows: Vec<Vec<PairRow>> = read.buffer_unordered(TOGETHER).try_collect().await?;
        let mut rows: Vec<PairRow> = rows.into_iter().flatten().collect();
        rows.sort_by_key(|row| row.ordinal);
        Ok((rows, (end < manifest.pairs()).then_some(end)))
    }

    async fn rows(
        &self,
        chunk: ChunkRef,
        wanted: std::ops::Range<u64>,
    ) -> Result<Vec<PairRow>, Problem> {
        let pairs = content::chunk(&*self.plane.blobs, &chunk).await?;
        Ok(pairs.iter().filter(|pair| wanted.contains(&pair.ordinal)).map(row).collect())
    }

    async fn filtered(
        &self,
        manifest: &Manifest,
        filter: PairFilter,
        from: Position,
        limit: usize,
    ) -> Result<Found, Problem> {
        let began = Instant::now();
        let filter = std::sync::Arc::new(filter);
        let mut pairs = Vec::new();
        let mut scanned: u64 =
            manifest.chunks.iter().take(from.chunk).map(|chunk| chunk.pairs).sum();
        let mut skip = from.pair;
        for (number, chunk) in manifest.chunks.iter().enumerate().skip(from.chunk) {
            let read = content::chunk(&*self.plane.blobs, chunk).await?;
            let (room, filter) = (limit - pairs.len(), std::sync::Arc::clone(&filter));
            let (rows, stopped) = store::blocking(move || select(&read, &filter, skip, room))
                .await
                .map_err(ContentError::from)?;
            pairs.extend(rows);
            if let Some(pair) = stopped {
                let scanned = scanned.saturating_add(u64::try_from(pair).unwrap_or(u64::MAX));
                return Ok(Found { pairs, next: Some(Position { chunk: number, pair }), scanned });
            }
            skip = 0;
            scanned = scanned.saturating_add(chunk.pairs);
            let is_last = number + 1 == manifest.chunks.len();
            if !is_last && (pairs.len() == limit || began.elapsed() >= MOMENT) {
                let next = Some(Position { chunk: number + 1, pair: 0 });
                return Ok(Found { pairs, next, scanned });
            }
        }
        Ok(Found { pairs, next: None, scanned })
    }
}

struct Found {
    pairs: Vec<PairRow>,
    next: Option<Position>,
    scanned: u64,
}

/// A place in the stored order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    chunk: usize,
    pair: usize,
}

impl Position {
    fn parse(text: &str) -> Self {
        let parts = text.split_once(':').map(|(chunk, pair)| (chunk.parse(), pair.parse()));
        match parts {
            Some((Ok(chunk), Ok(pair))) => Self { chunk, pair },
            _ => Self::default(),
        }
    }

    fn print(self) -> String {
        format!("{}:{}", self.chunk, self.pair)
    }
}

/// The pairs of a chunk from `skip` on that a filter selects, `room` at the most; where it stopped for want of room.
fn select(
    pairs: &[RrPair],
    filter: &PairFilter,
    skip: usize,
    room: usize,
) -> (Vec<PairRow>, Option<usize>) {
    let mut rows = Vec::new();
    for (number, pair) in pairs.iter().enumerate().skip(skip) {
        if !filter.selects(pair) {
            continue;
        }
        if rows.len() == room {
            return (rows, Some(number));
        }
        rows.push(row(pair));
    }
    (rows, None)
}

fn filter(
    text: &str,
) -> Result<Option<(PairFilter, Vec<countersign_engine::diagnostic::Diagnostic>)>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let (filter, found) = PairFilter::parse(text);
    let findings = found.into_vec();
    match filter {
        Some(filter) => Ok(Some((filter, findings))),
        None => Err(Problem::Document { what: "the filter", reason: "INVALID_FILTER", findings }),
    }
}

fn row(pair: &RrPair) -> PairRow {
    let request = pair.request.as_ref();
    let first = |own: &str, other: Option<&str>| {
        if own.is_empty() { other.unwrap_or_default().to_owned() } else { own.to_owned() }
    };
    let host = request.map_or("", |request| request.host.as_str());
    let host = if host.is_empty() { without_port(&pair.network_address) } else { host };
    let mut path = first(request.map_or("", |request| &request.path), Some(&pair.location));
    if let Some(request) = request.filter(|request| !request.query.is_empty()) {
        path.push('?');
        path.push_str(&request.query);
    }
    path.truncate(path.floor_char_boundary(MAX_PATH));
    let direction = match pair.direction {
        Direction::In => proto::Direction::In,
        Direction::Out => proto::Direction::Out,
    };
    let content_type = header(&pair.response.headers, "content-type");
    PairRow {
        ordinal: pair.ordinal,
        ts: pair.ts.map(timestamp),
        direction: direction.into(),
        method: first(request.map_or("", |request| &request.method), Some(&pair.command)),
        host: host.to_owned(),
        path,
        status: pair.response.status.into(),
        duration: Some(prost_types::Duration {
            seconds: i64::try_from(pair.duration / 1_000_000_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(pair.duration % 1_000_000_000).unwrap_or_default(),
        }),
        content_type: content_type
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default(),
        response_bytes: u64::try_from(pair.response.body.len()).unwrap_or(u64::MAX),
        stub: pair.stub.is_some(),
    }
}
