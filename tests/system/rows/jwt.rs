//! Tokens that cannot, or must not, be signed, and those that are; `signing` has the keys.

mod signing;

use harness::has_openssl;
use http::{HeaderMap, HeaderValue, Method};

use super::*;

const SECRET: &[u8] = b"a secret that is long enough for HS256";

fn hs256(name: &str, token: String) -> Case {
    Case::new(name, token, SECRET)
}

/// Serves tokens that are all left as they were recorded, for this reason.
async fn left(code: &str, tokens: &[(&str, String)]) {
    let cases = tokens.iter().map(|(name, token)| hs256(name, token.clone())).collect();
    let world = World::serve(cases).await;
    for (name, _) in tokens {
        world.unchanged(name, code).await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn j01_alg_none_or_missing_is_never_signed() {
    let headers = [
        ("none", r#"{"alg":"none"}"#),
        ("upper", r#"{"alg":"None"}"#),
        ("caps", r#"{"alg":"NONE"}"#),
        ("mixed", r#"{"alg":"nOnE"}"#),
        ("empty", r#"{"alg":""}"#),
        ("missing", r#"{"typ":"JWT"}"#),
        ("number", r#"{"alg":5}"#),
        ("array", r#"{"alg":["RS256"]}"#),
    ];
    left("alg_not_allowed", &headers.map(|(name, header)| (name, token(header, TIMES)))).await;
}

#[tokio::test]
async fn j02_members_that_stand_twice_are_refused() {
    let twice = [
        ("alg", token(r#"{"alg":"none","alg":"HS256"}"#, TIMES)),
        ("escaped", token(r#"{"alg":"HS256","\u0061lg":"none"}"#, TIMES)),
        ("claim", token(r#"{"alg":"HS256"}"#, r#"{"sub":"a","sub":"b"}"#)),
    ];
    left("jwt_duplicate_member", &twice).await;
}

#[tokio::test]
async fn j18_other_forms_of_tokens_are_left_alone() {
    let detached = {
        let whole = of_alg("HS256");
        let parts: Vec<&str> = whole.split('.').collect();
        format!("{}..{}", parts[0], parts[2])
    };
    let header = |more: &str| format!(r#"{{"alg":"HS256",{more}}}"#);
    let forms = [
        (
            "jwe",
            format!(
                "{}.a.b.c.d",
                URL_SAFE_NO_PAD.encode(
                    r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483648,"zip":"DEF"}"#
                )
            ),
        ),
        ("nested", token(&header(r#""cty":"JWT""#), TIMES)),
        ("json", r#"{"payload":"e30","signatures":[]}"#.to_owned()),
        ("detached", detached),
        ("b64", token(&header(r#""b64":false"#), TIMES)),
        ("crit", token(&header(r#""crit":["exp"]"#), TIMES)),
    ];
    left("jwt_form_unsupported", &forms).await;
}

#[tokio::test]
async fn j19_texts_that_almost_are_tokens_are_refused_at_once() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let world = World::serve(vec![
        hs256("dots", ".".repeat(1 << 20)),
        hs256("one", header.clone()),
        hs256("four", format!("{header}.e30.c2ln.c2ln")),
        hs256("unsigned", format!("{header}.e30.")),
        hs256("many", format!("{header}{}", ".e30".repeat(10_000))),
    ])
    .await;
    for (case, code) in [
        ("dots", "limit_exceeded"),
        ("one", "jwt_malformed"),
        ("four", "jwt_malformed"),
        ("unsigned", "jwt_malformed"),
        ("many", "jwt_malformed"),
    ] {
        world.unchanged(case, code).await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn j20_base64_that_is_not_base64url_is_refused() {
    let whole = of_alg("HS256");
    let parts: Vec<&str> = whole.split('.').collect();
    let with = |claims: &str| format!("{}.{claims}.{}", parts[0], parts[2]);
    let texts = [
        ("padded", with(&format!("{}==", parts[1]))),
        ("plus", with("e+/0")),
        ("space", with(&format!("{} ", parts[1]))),
        ("line", with(&format!("{}\n", parts[1]))),
        ("question", with(&format!("?{}", parts[1]))),
        // `{}` is e30; e31 has bits that stand for nothing.
        ("spare", with("e31")),
    ];
    left("jwt_malformed", &texts).await;
}

#[tokio::test]
async fn j21_claims_that_are_not_rewritten_keep_their_spelling() {
    let claims = r#"{"sub":"a","iat":1700000000,"exp":1700000600,"big":12345678901234567890123,"huge":1e400,"nbf":null,"low":-1,"f":1.50,"e":"\u0041"}"#;
    let world = World::serve(vec![
        hs256("kept", token(r#"{"alg":"HS256"}"#, claims)),
        hs256("text", token(r#"{"alg":"HS256"}"#, r#"{"exp":"123","iat":-5}"#)),
    ])
    .await;
    let claims_of = |token: &str| {
        let part = token.split('.').nth(1).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let kept = claims_of(&world.token("kept").await);
    for part in [
        r#""big":12345678901234567890123"#,
        r#""huge":1e400"#,
        r#""nbf":null"#,
        r#""low":-1"#,
        r#""f":1.50"#,
        r#""e":"\u0041""#,
    ] {
        assert!(kept.contains(part), "{part} in {kept}");
    }
    let (begin, end) = (number(&kept, "iat"), number(&kept, "exp"));
    assert!(end - begin == 600 && begin > 1_700_000_000, "{kept}");
    // A time that was a text stays one.
    assert!(claims_of(&world.token("text").await).contains(r#""exp":""#));
    drop(world.end().await);
}

fn number(claims: &str, name: &str) -> i64 {
    let (_, rest) = claims.split_once(&format!("\"{name}\":")).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn j22_tokens_that_are_deep_wide_or_long_are_left_alone() {
    let header = r#"{"alg":"HS256"}"#;
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let wide: Vec<String> = (0..12_000).map(|n| n.to_string()).collect();
    let wide = format!(r#"{{"a":[{}]}}"#, wide.join(","));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024));
    let texts = [("deep", deep), ("wide", wide), ("long", long)];
    left("limit_exceeded", &texts.map(|(name, claims)| (name, token(header, &claims)))).await;
}

#[tokio::test]
async fn j23_placeholders_in_a_token_are_text() {
    let claims = r#"{"sub":"${{secret:keys/placed}} ${{env_var:HOME}} ${{file:/etc/passwd}}","iat":1700000000,"exp":1700000600}"#;
    let world = World::serve(vec![hs256("placed", token(r#"{"alg":"HS256"}"#, claims))]).await;
    let served = world.token("placed").await;
    assert!(verifies(&served, SECRET));
    let part = URL_SAFE_NO_PAD.decode(served.split('.').nth(1).unwrap()).unwrap();
    let text = String::from_utf8(part).unwrap();
    assert!(
        text.contains("${{secret:keys/placed}} ${{env_var:HOME}} ${{file:/etc/passwd}}"),
        "{text}"
    );
    drop(world.end().await);
}

#[tokio::test]
async fn j24_a_placeholder_that_means_nothing_is_refused_at_upload() {
    let config = json!({"secretPath": "${{sceret:a/b}}"});
    refused_at_upload(&config, "secret_path_malformed", "secretPath").await;
}

#[tokio::test]
async fn j25_a_clock_that_is_far_off_does_not_end_signing() {
    // The replay's own clock stands for the machine's, which tests cannot set.
    let ranges = [("past", -3_000_000_000_i64), ("future", 7_000_000_000)];
    let cases = ranges.map(|(name, far)| {
        let claims = json!({"sub": "a", "iat": far, "exp": far + 600}).to_string();
        hs256(name, token(r#"{"alg":"HS256"}"#, &claims))
    });
    let world = World::serve(cases.to_vec()).await;
    for (name, _) in ranges {
        world.signed(name, SECRET).await;
        let one = world.token(name).await;
        let claims = URL_SAFE_NO_PAD.decode(one.split('.').nth(1).unwrap()).unwrap();
        let claims = String::from_utf8(claims).unwrap();
        assert_eq!(number(&claims, "exp") - number(&claims, "iat"), 600, "{claims}");
        assert!((number(&claims, "iat") - harness::now()).abs() <= 60, "{claims}");
    }
    drop(world.end().await);
}

/// A library that has the clock of whoever loads it go wrong by as many seconds as a file says; `None` where there is no compiler of C.
fn wrong_clock(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    let text = r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t clock, struct timespec *now) {
            int failed = syscall(SYS_clock_gettime, clock, now);
            const char *path = getenv("WRONG_BY");
            if (failed || clock != CLOCK_REALTIME || !path) return failed;
            char text[32] = {0};
            int file = open(path, O_RDONLY | O_CLOEXEC);
            if (file >= 0) {
                if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atoll(text);
                close(file);
            }
            return 0;
        }"#;
    fs::write(&source, text).ok()?;
    let words = ["-shared", "-fPIC", "-O1", "-o"];
    let built = Command::new("cc").args(words).arg(&library).arg(&source).output().ok()?;
    built.status.success().then_some(library)
}

#[tokio::test]
async fn j25_a_clock_that_is_put_back_while_tokens_are_signed_does_not_end_that() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = wrong_clock(dir.path()) else {
        harness::notice("there is no compiler of C, so that no clock is put back");
        return;
    };
    let by = dir.path().join("by");
    // It begins ahead of the verifier's, so that what is signed after it was put back has not expired.
    fs::write(&by, "7200").unwrap();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let variables = [("LD_PRELOAD".to_owned(), text(&library)), ("WRONG_BY".to_owned(), text(&by))];
    let setup = Setup { variables: variables.into(), ..Setup::default() };
    let world = World::serve_with(vec![hs256("login", of_alg("HS256"))], &setup).await;
    let issued = async || {
        let token = world.token("login").await;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims = String::from_utf8(claims).unwrap();
        assert_eq!(number(&claims, "exp") - number(&claims, "iat"), 600, "{claims}");
        number(&claims, "iat") - harness::now()
    };
    assert!((issued().await - 7_200).abs() <= 60);
    // Tokens follow the clock in both directions: one that went on counting from the wrong hour would be of the future for everybody else. So what
    // was signed before is not given out any more, and nothing waits for the hour to pass.
    for wrong in [3_600, 86_400, 0] {
        fs::write(dir.path().join("next"), wrong.to_string()).unwrap();
        fs::rename(dir.path().join("next"), &by).unwrap();
        wait_until(&format!("tokens are of {wrong} s"), || async {
            ((issued().await - wrong).abs() <= 60).then_some(())
        })
        .await;
    }
    world.signed("login", SECRET).await;
    drop(world.end().await);
}

#[tokio::test]
async fn j26_of_costly_signatures_a_bounded_number_is_waited_for_and_other_routes_go_on() {
    if !has_openssl() {
        return;
    }
    let (key, public) = pair("genrsa 4096");
    let names: Vec<String> = (0..60).map(|nth| format!("costly{nth}")).collect();
    let cases = names.iter().map(|name| Case::new(name, of_alg("RS256"), &key));
    let world = World::serve_with(cases.collect(), &Setup::flags("--sign-queue 4")).await;
    // Each has a token of its own to be signed, and none has been yet.
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let asked =
        futures_util::future::join_all(paths.iter().map(|path| world.client.get(path))).await;
    let (signed, refused): (Vec<_>, Vec<_>) = asked.iter().partition(|answer| answer.status == 200);
    assert!(!signed.is_empty() && !refused.is_empty(), "{} of 60 are refused", refused.len());
    for answer in refused {
        assert_eq!(answer.status, 503);
        assert_eq!(
            (&answer.headers["retry-after"], &answer.json()["error"]),
            (&"1".parse().unwrap(), &json!("signing_busy"))
        );
    }
    // Who comes again is served.
    for name in &names {
        wait_until(&format!("{name} is signed"), || async {
            (world.client.get(&format!("/{name}")).await.status == 200).then_some(())
        })
        .await;
    }
    world.signed_by("costly59", "RS256", &public).await;
    // That the probe was served meanwhile is seen at the end.
    drop(world.end().await);
}

#[tokio::test]
async fn j27_urls_in_a_token_are_never_followed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/k", listener.local_addr().unwrap());
    let header = json!({"alg": "HS256", "jku": url, "x5u": url, "kid": url}).to_string();
    let world = World::serve(vec![hs256("urls", token(&header, TIMES))]).await;
    world.signed("urls", SECRET).await;
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(world.end().await);
}

#[tokio::test]
async fn j28_a_kid_is_compared_and_nothing_else() {
    let with = |kid: Value| token(&json!({"alg": "HS256", "kid": kid}).to_string(), TIMES);
    let good = [
        ("path", with(json!("../../etc/passwd"))),
        ("number", with(json!(7))),
        ("nul", with(json!("a\0b"))),
        ("line", with(json!("a\nb"))),
        ("sql", with(json!("' or 1=1 --"))),
    ];
    let mut cases: Vec<Case> =
        good.iter().map(|(name, token)| hs256(name, token.clone())).collect();
    cases.push(hs256("long", with(json!("x".repeat(5_000)))));
    let world = World::serve(cases).await;
    for (name, _) in &good {
        let token = world.token(name).await;
        assert_ne!(token, world.recorded(name), "{name} is not signed");
        // Not every verifier reads a `kid` that is a number, which is left as it was.
        if *name == "number" {
            let (message, signature) = token.rsplit_once('.').unwrap();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            aws_lc_rs::hmac::verify(&key, message.as_bytes(), &signature).unwrap();
            continue;
        }
        world.signed_by(name, "HS256", std::str::from_utf8(SECRET).unwrap()).await;
    }
    world.unchanged("long", "limit_exceeded").await;
    drop(world.end().await);
}

#[tokio::test]
async fn j29_many_requests_with_many_tokens_leave_nothing_behind() {
    let world = World::serve(vec![hs256("login", of_alg("HS256"))]).await;
    let ask = async |from: usize| {
        let asked = (from..from + 500).map(|nth| {
            let mut headers = HeaderMap::new();
            let bearer =
                format!("Bearer {}", token(r#"{"alg":"HS256"}"#, &json!({"sub": nth}).to_string()));
            headers.insert("authorization", HeaderValue::from_str(&bearer).unwrap());
            world.client.send(Method::GET, "/login", headers, Default::default())
        });
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    };
    ask(0).await;
    let before = memory(world.responder.id()).0;
    for round in 1..8 {
        ask(round * 500).await;
    }
    let after = memory(world.responder.id()).0;
    assert!(after < before + 16 * 1024 * 1024, "{before} bytes became {after}");
    drop(world.end().await);
}

#[tokio::test]
async fn j30_what_stands_before_a_token_stays_as_it_is() {
    let bare = of_alg("HS256");
    let cases = vec![
        hs256("bearer", format!("Bearer {bare}")),
        hs256("old", format!("JWTBearer {bare}")),
        hs256("double", format!("Bearer  {bare}")),
        hs256("two", format!("Bearer {bare} {bare}")),
    ];
    let world = World::serve(cases).await;
    for (case, prefix) in [("bearer", "Bearer "), ("old", "JWTBearer ")] {
        let served = world.token(case).await;
        let token = served.strip_prefix(prefix).unwrap();
        assert!(verifies(token, SECRET), "{case}: {served}");
    }
    for case in ["double", "two"] {
        let served = world.token(case).await;
        assert_eq!(served, world.recorded(case), "{case}");
    }
    drop(world.end().await);
}
