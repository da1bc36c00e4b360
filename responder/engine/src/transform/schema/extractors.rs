//! What is said of extractors.

use super::{Field, Input, Said};

const NAME: Field = Field::new("name", Input::Text, "the name, in any case").needed();
const INDEX: Field =
    Field::new("index", Input::Number, "which of several with this name, from 0").or("0");
const DELETE: Field =
    Field::new("deleteIfEmpty", Input::Boolean, "take the field out when the result is empty")
        .or("false");

/// By name.
pub(super) const SAID: &[Said] = &[
    ("empty", "Nothing; what comes of it is thrown away", &[]),
    (
        "file",
        "A file of the node; what comes of it is thrown away",
        &[Field::new("filename", Input::Text, "the path, or dataframe:<id>__<file>").needed()],
    ),
    ("http_queryparam", "The value of a query parameter", &[NAME, INDEX]),
    (
        "http_req_cookie",
        "The value of a cookie of the request",
        &[Field::new("name", Input::Text, "the name, with its case").needed()],
    ),
    ("http_req_header", "The value of a header field of the request", &[NAME, INDEX, DELETE]),
    ("http_req_trailer", "The value of a trailer of the request", &[NAME, INDEX, DELETE]),
    (
        "http_res_cookie",
        "The value of a cookie that the response sets",
        &[Field::new("name", Input::Text, "the name, with its case").needed()],
    ),
    ("http_res_header", "The value of a header field of the response", &[NAME, INDEX, DELETE]),
    ("http_res_trailer", "The value of a trailer of the response", &[NAME, INDEX, DELETE]),
    ("http_status_code", "The status of the response", &[]),
    (
        "http_url",
        "The path of the request, or one segment of it",
        &[Field::new(
            "index",
            Input::Number,
            "which segment; /a/b has a at 1. All of it by default",
        )],
    ),
    (
        "json_path",
        "A place of the whole pair, such as http.res.headers.X-Token.0 or http.req.body.user",
        &[
            Field::new("path", Input::Path, "the place").needed(),
            Field::new(
                "regex",
                Input::Regex,
                "picks a part: its first group, or all that it matches",
            ),
        ],
    ),
    ("latency", "How long the answer takes, as a duration", &[]),
    ("req_body", "The body of the request, decompressed", &[]),
    ("res_body", "The body of the response, decompressed", &[]),
    ("session", "The session that tag_session or the recorder named", &[]),
    ("target_hostname", "The host that the request goes to, where it is passed through", &[]),
    ("target_port", "The port that the request goes to, where it is passed through", &[]),
    (
        "variable",
        "A variable; empty when nobody has stored it",
        &[Field::new("variable", Input::Text, "its name").needed()],
    ),
];

/// The message that an extractor works on.
pub(super) fn side(name: &str) -> &'static str {
    match name {
        "json_path" => "path",
        "http_res_cookie" | "http_res_header" | "http_res_trailer" | "http_status_code"
        | "latency" | "res_body" => "response",
        _ => "request",
    }
}
