//! Token lineage of every recording at hand: the suggested template, unedited, covers what the recording issues.
//!
//! The recordings are third-party data and not part of the repository; where they are absent the test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that reads files and reports"
)]

mod shared;

use countersign_engine::{
    compile::compile,
    lineage::{Analysis, Analyzer, Check, Form, Options, Origin, Suggestion, suggest},
    snapshot::{RrPair, Serve},
    test_config::TestConfig,
    transform::Template,
};

use shared::{read, shared_data};

fn config() -> TestConfig {
    TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap()
}

/// The lineage of a recording, and how many issued tokens the suggested template covers.
fn lineage(pairs: &[RrPair]) -> (Analysis, Suggestion, u64) {
    let mut analyzer = Analyzer::default();
    // In the order of the store, not of the recording.
    for pair in pairs.iter().rev() {
        analyzer.push(pair);
    }
    let analysis = analyzer.finish();
    let suggestion = suggest(&analysis, &Options::new("suggested", "").unwrap());
    let mut check = Check::new(&analysis, &suggestion, config());
    for pair in pairs {
        check.push(pair);
    }
    let (covered, missed) = check.finish();
    assert_eq!(missed, []);
    let (_, found) = Template::parse(suggestion.template_json.as_bytes());
    assert_eq!(found.as_slice(), [], "{}", suggestion.template_json);
    (analysis, suggestion, covered)
}

/// Each family on a line.
fn told(analysis: &Analysis) -> Vec<String> {
    analysis
        .report()
        .families
        .iter()
        .map(|family| {
            let form = match family.kind.form {
                Form::Jws => family.kind.alg.as_str(),
                Form::Jwe => "JWE",
                Form::Opaque => "opaque",
            };
            let issued: Vec<String> =
                family.issued.iter().map(|at| format!("{} {}", at.endpoint, at.place)).collect();
            let origin = match family.origin {
                Origin::Issued => "issued at",
                Origin::Orphan => "never issued",
            };
            format!(
                "{form}: {} tokens {origin} {}, {} uses, {} never used",
                family.tokens,
                issued.join(", "),
                family.uses,
                family.never_used
            )
        })
        .collect()
}

#[test]
fn every_login_of_many_users_is_re_signed() {
    let Some(root) = shared_data("token lineage of recordings is") else { return };
    let pairs = read(&root.join("sessions-demo")).0;
    let (analysis, suggestion, covered) = lineage(&pairs);
    assert_eq!(
        told(&analysis),
        [
            "HS256: 201 tokens issued at POST localhost/login body access_token, 826 uses, 0 never used",
            "opaque: 2 tokens never issued , 6 uses, 0 never used",
            "HS256: 2 tokens never issued , 6 uses, 0 never used",
        ]
    );
    let logins: Vec<RrPair> = pairs
        .iter()
        .filter(|pair| pair.command == "POST" && pair.location == "/login")
        .filter(|pair| pair.response.status == 200)
        .cloned()
        .collect();
    let (template, _) = Template::parse(suggestion.template_json.as_bytes());
    for login in &logins {
        let (compiled, found) = compile(vec![login.clone()], &template, &config(), Serve::All);
        assert_eq!(compiled.tokens(), 1, "{:?}", found.as_slice());
    }
    assert_eq!((logins.len(), covered), (201, 201));
    let (compiled, _) = compile(pairs, &template, &config(), Serve::All);
    assert_eq!(compiled.tokens(), 201);
    let secrets: Vec<String> =
        suggestion.secrets.iter().map(|needed| needed.secret.to_string()).collect();
    assert_eq!(secrets, ["jwt/hmac.key"]);
    let orphans = suggestion.findings.iter().filter(|found| found.code == "token_never_issued");
    assert_eq!(orphans.map(|found| found.count).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn tokens_of_other_recordings_are_found() {
    let Some(root) = shared_data("token lineage of recordings is") else { return };
    for (folder, expected, re_signed) in [
        (
            "node-auth",
            vec![
                "opaque: 4 tokens issued at POST localhost/oauth/token body access_token, 2 uses, 2 never used",
                "HS256: 1 tokens issued at GET localhost/me body id_token, 0 uses, 1 never used",
            ],
            1,
        ),
        (
            "transform-recommendations",
            vec![
                "HS256: 1 tokens issued at POST localhost/api/auth/token body access_token, 2 uses, 0 never used",
            ],
            1,
        ),
        (
            "dlp-demo",
            vec![
                "HS256: 1 tokens issued at GET localhost/profile body session_jwt, 0 uses, 1 never used",
            ],
            1,
        ),
        (
            "wiremock-export-demo/recording",
            vec![
                "opaque: 3 tokens never issued , 3 uses, 0 never used",
                "HS256: 1 tokens issued at POST banking-gateway/api/users/login body token, 0 uses, 1 never used",
            ],
            1,
        ),
        ("go-drift-demo", vec!["opaque: 30 tokens never issued , 30 uses, 0 never used"], 0),
        ("xml", vec![], 0),
    ] {
        let (analysis, _, covered) = lineage(&read(&root.join(folder)).0);
        assert_eq!(told(&analysis), expected, "{folder}");
        assert_eq!(covered, re_signed, "{folder}");
    }
}
