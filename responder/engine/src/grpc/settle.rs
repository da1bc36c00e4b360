//! Brings a recorded answer of gRPC into the form in which it is served: plain frames, and the status behind them.

use super::{is_call, is_grpc, read, web};
use crate::{
    snapshot::{Header, RrPair, header},
    transform::message::Reply,
};

const STATUS: &str = "grpc-status";
/// The fields that tell how a call ended.
const ENDS: [&str; 3] = [STATUS, "grpc-message", "grpc-status-details-bin"];

/// Settles the answer of a pair; what is no answer of gRPC stays as it is.
pub(crate) fn settle(pair: &RrPair, reply: &mut Reply) {
    let content_type = header(&reply.response.headers, "content-type").cloned();
    let grpc = content_type.as_ref().map_or_else(|| is_call(pair), |value| is_grpc(value));
    if !grpc || reply.response.status != 200 {
        return;
    }
    let Some(mut body) = read(&reply.response.body) else { return };
    reply.trailers.append(&mut body.trailers);
    // A recorder that leaves out the frames leaves nothing of a message without fields.
    let request = pair.request.as_ref().map_or(&[][..], |request| &request.body);
    let bare = !request.is_empty() && read(request).is_some_and(|request| !request.framed);
    if body.messages.is_empty() && bare && ended_well(reply) {
        body.messages.push(super::Message::plain(Vec::new()));
    }
    let (plain, empty) =
        (body.messages.iter().all(|message| !message.folded), body.messages.is_empty());
    let frames = body.to_frames();
    reply.response.body = frames;
    let headers = &mut reply.response.headers;
    if plain {
        headers.retain(|field| !field.name.eq_ignore_ascii_case("grpc-encoding"));
    }
    let value = match &content_type {
        Some(value) if web(value).is_none() => value.clone(),
        _ => "application/grpc+proto".into(),
    };
    headers.retain(|field| !field.name.eq_ignore_ascii_case("content-type"));
    headers.push(Header { name: "Content-Type".to_owned(), value });
    settle_end(reply, empty);
}

fn ended_well(reply: &Reply) -> bool {
    let fields = [&reply.trailers, &reply.response.headers];
    fields.into_iter().find_map(|fields| header(fields, STATUS)).is_none_or(|code| &**code == b"0")
}

/// Puts the end of the call behind the messages. Without messages it stays among the headers where it was recorded there.
fn settle_end(reply: &mut Reply, empty: bool) {
    let in_headers = header(&reply.response.headers, STATUS).is_some();
    if header(&reply.trailers, STATUS).is_some() {
        // Recorders that merge trailers into headers may do so besides.
        reply.response.headers.retain(|field| !is_end(field));
    } else if in_headers && !empty {
        let (ends, headers) =
            std::mem::take(&mut reply.response.headers).into_iter().partition(is_end);
        reply.response.headers = headers;
        reply.trailers.extend::<Vec<_>>(ends);
    } else if !in_headers {
        // A recording without trailers would leave every client without an end.
        reply.trailers.push(Header { name: STATUS.to_owned(), value: "0".into() });
    }
}

fn is_end(field: &Header) -> bool {
    ENDS.iter().any(|name| field.name.eq_ignore_ascii_case(name))
}
