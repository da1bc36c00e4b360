//! A recording of any size, always the same: users log in, then ask with the token that they were given.
//!
//! Lines look like those of a recorder, responses have about 600 bytes. Nothing is held but the line at hand.

use std::{fmt::Write as _, io};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// A user logs in and asks so often.
const CALLS: usize = 10;
/// The first calls log in and ask for other things.
const FIRST_ORDER: usize = 3;
/// The start of the recording, in milliseconds since the epoch.
const BEGIN: i64 = 1_704_164_645_000;

/// What the header fields of a response take, with `: ` and the line's end.
const FIELDS: usize = "Content-Length: 600\r\nContent-Type: application/json\r\nDate: Tue, 02 Jan 2024 03:04:05 GMT\r\n".len();

/// Writes `count` pairs, one per line; tells how many bytes their responses have.
pub(crate) fn write(count: usize, out: &mut impl io::Write) -> io::Result<usize> {
    let (mut line, mut body, mut recorded) = (String::new(), String::new(), 0);
    for nth in 0..count {
        line.clear();
        body.clear();
        pair(nth, &mut line, &mut body).map_err(io::Error::other)?;
        out.write_all(line.as_bytes())?;
        recorded += body.len() + FIELDS;
    }
    out.flush()?;
    Ok(recorded)
}

/// The path of the n-th order that users ask for; each is recorded once, up to a million pairs.
pub(crate) fn order(nth: usize) -> String {
    let orders = CALLS - FIRST_ORDER;
    order_of(nth / orders * CALLS + FIRST_ORDER + nth % orders)
}

/// How many orders are asked for in so many pairs.
pub(crate) fn orders(pairs: usize) -> usize {
    pairs / CALLS * (CALLS - FIRST_ORDER) + (pairs % CALLS).saturating_sub(FIRST_ORDER)
}

fn order_of(pair: usize) -> String {
    format!("/v1/orders/{}", pair * 7919 % 1_000_003)
}

fn pair(nth: usize, line: &mut String, body: &mut String) -> std::fmt::Result {
    let (user, call) = (nth / CALLS, nth % CALLS);
    let token = token(user);
    let login = call == 0;
    let (method, path) = match call {
        0 => ("POST", "/oauth/token".to_owned()),
        1 => ("GET", "/v1/profile".to_owned()),
        2 => ("GET", format!("/v1/users/{user}/orders")),
        _ => ("GET", order_of(nth)),
    };
    response(nth, &token, body)?;
    let authorization =
        if login { String::new() } else { format!(r#","Authorization":["Bearer {token}"]"#) };
    let sent = if login {
        STANDARD.encode(format!(
            r#"{{"username":"user-{user}","password":"secret-{user}","grant_type":"password"}}"#
        ))
    } else {
        String::new()
    };
    // Recorders write a pair when its response has come, so that the lines are only almost in order.
    let late = i64::try_from(mix(nth) % 40).unwrap_or_default();
    let at = BEGIN + i64::try_from(nth).unwrap_or_default() + late;
    let time = jiff::Timestamp::from_microsecond(at * 1000 + 678).unwrap_or_default();
    let uuid = STANDARD
        .encode(u128::from(mix(nth)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C).to_be_bytes());
    let signature = |text: &str| STANDARD.encode(text);
    writeln!(
        line,
        concat!(
            r#"{{"msgType":"rrpair","resource":"shop","ts":"{}","l7protocol":"https","isTls":true,"duration":{},"#,
            r#""tags":{{"captureMode":"proxy","k8sAppLabel":"shop","proxyVersion":"v2.4.91","sequence":"{}","source":"goproxy"}},"#,
            r#""uuid":"{}","direction":"OUT","cluster":"undefined","namespace":"undefined","service":"shop","tech":"JSON","#,
            r#""network_address":"api.shop.example:443","command":"{}","location":"{}","status":"200","#,
            r#""http":{{"req":{{"url":"{}","uri":"{}","version":"1.1","method":"{}","host":"api.shop.example","#,
            r#""headers":{{"Accept":["application/json"],"Host":["api.shop.example"],"User-Agent":["shop/1.0"]{}}},"bodyBase64":"{}"}},"#,
            r#""res":{{"contentType":"application/json","statusCode":200,"statusMessage":"200 OK","#,
            r#""headers":{{"Content-Length":["{}"],"Content-Type":["application/json"],"Date":["Tue, 02 Jan 2024 03:04:05 GMT"]}},"bodyBase64":"{}"}}}},"#,
            r#""signature":{{"http:host":"{}","http:method":"{}","http:queryparams":"","http:url":"{}"}},"#,
            r#""netinfo":{{"id":"{}","downstream":{{"established":"{}","ipAddress":"10.0.0.7","bytesSent":"703"}},"upstream":{{"hostname":"api.shop.example","port":443}}}}}}"#
        ),
        time,
        1 + mix(nth) % 200,
        nth,
        uuid,
        method,
        path,
        path,
        path,
        method,
        authorization,
        sent,
        body.len(),
        STANDARD.encode(&*body),
        signature("api.shop.example"),
        signature(method),
        signature(&path),
        nth,
        time,
    )
}

/// What is answered: a token to a login, an order otherwise.
fn response(nth: usize, token: &str, body: &mut String) -> std::fmt::Result {
    let user = nth / CALLS;
    if nth.is_multiple_of(CALLS) {
        write!(
            body,
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"scope":"openid profile orders","session_state":"{:032x}","padding":"{}"}}"#,
            mix(nth),
            "x".repeat(150)
        )?;
    } else {
        write!(
            body,
            r#"{{"id":"{:016x}","user":"user-{user}","status":"shipped","items":["#,
            mix(nth)
        )?;
        for item in 0..5_u64 {
            let comma = if item == 0 { "" } else { "," };
            let price = mix(nth + 1) % 9000 + item;
            write!(
                body,
                r#"{comma}{{"sku":"SKU-{:08x}","title":"A thing of quality","quantity":{},"price":"{price}.99"}}"#,
                mix(nth) >> 32,
                item + 1
            )?;
        }
        write!(body, r#"],"note":"left with a neighbour"}}"#)?;
    }
    Ok(())
}

/// A user's token; its JWS signature is of no account.
fn token(user: usize) -> String {
    let claims = format!(
        r#"{{"sub":"user-{user}","iss":"https://id.shop.example","iat":1704164645,"exp":1704168245}}"#
    );
    format!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}.{}",
        URL_SAFE_NO_PAD.encode(claims),
        URL_SAFE_NO_PAD.encode([0xA5; 32])
    )
}

/// A number that looks like chance (splitmix64).
fn mix(nth: usize) -> u64 {
    let mut z = u64::try_from(nth).unwrap_or_default().wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
