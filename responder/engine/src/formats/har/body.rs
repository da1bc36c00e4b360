//! Bodies in a HAR: text, base64, or the fields of a form.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::formats::{
    node::Node,
    target::form_escape,
    verdict::{self, Left},
};

/// The content type and bytes of a request's body, if it has one.
pub(super) fn sent(post: &Node) -> Result<Option<(String, Bytes)>, Left> {
    if !post.is_map() {
        return Ok(None);
    }
    let content_type = post.get("mimeType").word().into_owned();
    let params = post.get("params").items();
    if let Some(body) = text(post)?
        && (!body.is_empty() || params.is_empty())
    {
        return Ok((!body.is_empty()).then_some((content_type, body)));
    }
    if params.is_empty() {
        return Ok(None);
    }
    let body = match boundary(&content_type) {
        Some(boundary) => multipart(params, boundary),
        None => form(params),
    };
    Ok(Some((content_type, body.into())))
}

/// The member `text`, out of base64 where `encoding` says so.
pub(super) fn text(content: &Node) -> Result<Option<Bytes>, Left> {
    let Some(text) = content.get("text").scalar() else { return Ok(None) };
    if !content.get("encoding").word().eq_ignore_ascii_case("base64") {
        return Ok(Some(Bytes::from(text.into_owned())));
    }
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD
        .decode(plain)
        .map(|bytes| Some(bytes.into()))
        .map_err(|_| verdict::invalid("text", "base64"))
}

/// Names and values as a form or query.
pub(super) fn form(params: &[Node]) -> String {
    let fields: Vec<String> = params
        .iter()
        .map(|param| {
            format!(
                "{}={}",
                form_escape(&param.get("name").word()),
                form_escape(&param.get("value").word())
            )
        })
        .collect();
    fields.join("&")
}

fn boundary(content_type: &str) -> Option<&str> {
    let lower = content_type.to_ascii_lowercase();
    let at = lower.starts_with("multipart/").then(|| lower.find("boundary="))??;
    let value = content_type.get(at.saturating_add("boundary=".len())..)?;
    let value = value.split(';').next()?.trim().trim_matches('"');
    (!value.is_empty()).then_some(value)
}

fn multipart(params: &[Node], boundary: &str) -> String {
    let mut body = String::new();
    for param in params {
        let file = param.get("fileName").word();
        let of_file =
            if file.is_empty() { String::new() } else { format!("; filename=\"{file}\"") };
        let mime = param.get("contentType").word();
        let of_mime =
            if mime.is_empty() { String::new() } else { format!("Content-Type: {mime}\r\n") };
        let (name, value) = (param.get("name").word(), param.get("value").word());
        body.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{of_file}\r\n{of_mime}\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!("--{boundary}--\r\n"));
    body
}
