//! A request for every call of both planes, made with grpcurl as a user would.

use std::{collections::BTreeSet, ffi::OsString, net::SocketAddr, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// grpcurl, which CI must have.
pub(super) fn grpcurl() -> Option<OsString> {
    let grpcurl = std::env::var_os("COUNTERSIGN_GRPCURL");
    assert!(grpcurl.is_some() || std::env::var_os("CI").is_none(), "CI needs grpcurl");
    grpcurl
}

/// Calls that are refused what they are asked here, or that go on until they are ended.
const UNANSWERED: [&str; 8] = [
    "CommitSnapshotManifest",
    "AppendPieces",
    "RollbackReplay",
    "WatchReplay",
    "WatchReport",
    "FindMissingChunks",
    "WriteChunks",
    "Subscribe",
];

/// A method, and what it is asked.
pub(super) type Call = (&'static str, Value);

const PROJECT: &str = "projects/default";
const SNAPSHOT: &str = "projects/default/snapshots/a";
const REPLAY: &str = "projects/default/replays/a";
const TRANSFORM: &str = "projects/default/transforms/t";
const CONFIG: &str = "projects/default/testConfigs/standard";

/// What a responder's API is asked: a request that it has and one that it has not, each with the token, and the rest.
pub(super) fn of_responder(token: &str) -> Vec<Call> {
    let with = |path: &str| {
        let token =
            json!({"name": "authorization", "value": STANDARD.encode(format!("Bearer {token}"))});
        json!({"replay": REPLAY, "request": {"method": "GET", "path": path, "version": "1.1", "host": "api.example", "headers": [token]}})
    };
    let selector = json!({"path": "/rsa"});
    let mut calls = Vec::new();
    for path in ["/rsa", "/nowhere"] {
        calls.extend([
            ("countersign.responder.v1.ResponderService/Match", with(path)),
            ("countersign.responder.v1.ResponderService/Respond", with(path)),
            ("countersign.responder.v1.ResponderService/RespondStream", with(path)),
        ]);
    }
    calls.extend([
        ("countersign.responder.v1.AdminService/GetStatus", json!({})),
        ("countersign.responder.v1.AdminService/Dump", json!({"replay": REPLAY})),
        (
            "countersign.responder.v1.AdminService/ListSequences",
            json!({"replay": REPLAY, "selector": selector}),
        ),
        ("countersign.responder.v1.AdminService/ListJournal", json!({"limit": 100})),
        (
            "countersign.responder.v1.AdminService/Reset",
            json!({"replay": REPLAY, "selector": selector}),
        ),
        ("countersign.responder.v1.AdminService/Drain", json!({})),
    ]);
    calls
}

macro_rules! calls {
    ($($service:literal { $($method:literal $request:tt)* })*) => {
        vec![$($((concat!("countersign.", $service, "/", $method), json!($request)),)*)*]
    };
}

/// What the control plane is asked, in this order: what a call makes a later one may use. It is asked about a stored template and one that it is given, and
/// to import a recording.
pub(super) fn of_control_plane(stored: &str, template: &str, recording: &str) -> Vec<Call> {
    let stored = format!("projects/default/transforms/{stored}");
    [
        about_snapshots(&STANDARD.encode(recording)),
        about_templates(&stored, template),
        about_replays(&stored),
        about_the_fleet(),
    ]
    .concat()
}

fn about_snapshots(recording: &str) -> Vec<Call> {
    calls! {
        "control.v1.SnapshotService" {
            "CreateSnapshot" {"parent": PROJECT, "snapshotId": "b"}
            "AppendRecords" {"name": "projects/default/snapshots/b", "uploadId": "u", "sequence": "1", "path": "b.jsonl", "data": recording}
            "CommitSnapshot" {"name": "projects/default/snapshots/b", "uploadId": "u", "stripSignatures": true}
            "CommitSnapshotManifest" {"name": "projects/default/snapshots/b"}
            "GetSnapshot" {"name": SNAPSHOT}
            "ListSnapshots" {"parent": PROJECT}
            "ListRecords" {"parent": SNAPSHOT}
            "ReadRecords" {"name": SNAPSHOT}
            "AnalyzeTokens" {"name": SNAPSHOT}
            "DeleteSnapshot" {"name": "projects/default/snapshots/b"}
        }
        "control.v1.TrafficService" {
            "AppendPieces" {"name": SNAPSHOT}
            "ListPairs" {"parent": SNAPSHOT}
            "GetPair" {"snapshot": SNAPSHOT, "ordinal": "0"}
            "GetPair" {"snapshot": SNAPSHOT, "ordinal": "2"}
            "SummarizeTraffic" {"name": SNAPSHOT}
        }
    }
}

fn about_templates(stored: &str, template: &str) -> Vec<Call> {
    let get = json!({"method": "GET", "path": "/rsa", "version": "1.1", "host": "api.example"});
    calls! {
        "control.v1.TransformService" {
            "GetTransform" {"name": TRANSFORM}
            "GetTransform" {"name": stored}
            "ListTransforms" {"parent": PROJECT}
            "ValidateTransform" {"parent": PROJECT, "templateJson": template, "snapshot": SNAPSHOT}
            "CreateTransform" {"parent": PROJECT, "transformId": "made", "transform": {"templateJson": template}}
            "UpdateTransform" {"transform": {"name": "projects/default/transforms/made", "templateJson": template}}
            "SuggestTransform" {"parent": PROJECT, "snapshot": SNAPSHOT}
            "DeleteTransform" {"name": "projects/default/transforms/made"}
        }
        "control.v1.InspectService" {
            "PreviewTransform" {"parent": PROJECT, "templateJson": template, "record": {"snapshot": SNAPSHOT, "ordinal": "2"}}
            "PreviewTransform" {"parent": PROJECT, "transform": stored, "record": {"snapshot": SNAPSHOT, "ordinal": "2"}}
            "ExplainRequest" {"parent": PROJECT, "snapshot": SNAPSHOT, "transform": TRANSFORM, "request": get}
        }
        "control.v1.TestConfigService" {
            "GetTestConfig" {"name": CONFIG}
            "ListTestConfigs" {"parent": PROJECT}
            "CloneTestConfig" {"name": CONFIG, "testConfigId": "clone"}
            "CreateTestConfig" {"parent": PROJECT, "testConfigId": "mine", "testConfig": {"configJson": "{\"id\": \"mine\"}"}}
            "UpdateTestConfig" {"testConfig": {"name": "projects/default/testConfigs/mine", "configJson": "{\"id\": \"mine\"}"}}
            "DeleteTestConfig" {"name": "projects/default/testConfigs/clone"}
            "DeleteTestConfig" {"name": "projects/default/testConfigs/mine"}
        }
    }
}

fn about_replays(stored: &str) -> Vec<Call> {
    calls! {
        "control.v1.ReplayService" {
            "GetReplay" {"name": REPLAY}
            "ListReplays" {"parent": PROJECT}
            "CreateReplay" {"parent": PROJECT, "replayId": "c", "replay": {"snapshot": SNAPSHOT, "transform": stored}}
            "StartReplay" {"name": "projects/default/replays/c", "validateOnly": true}
            "RetryReplay" {"name": REPLAY}
            "RollbackReplay" {"name": REPLAY}
            "WatchReplay" {"name": REPLAY}
            "ListResponders" {"parent": PROJECT}
            "StopReplay" {"name": "projects/default/replays/c"}
            "DeleteReplay" {"name": "projects/default/replays/c"}
        }
        "control.v1.ReportService" {
            "GetReport" {"name": REPLAY}
            "WatchReport" {"name": REPLAY}
            "ListReports" {"name": REPLAY}
            "CompareReports" {"name": REPLAY, "base": "1", "run": "1"}
        }
    }
}

fn about_the_fleet() -> Vec<Call> {
    calls! {
        "control.v1.ConsoleService" {
            "DescribeTransforms" {}
            "GetControlPlane" {}
        }
        "discovery.v1.ChunkService" {
            "GetCapabilities" {}
            "ReadChunks" {"snapshot": SNAPSHOT}
            "FindMissingChunks" {"snapshot": SNAPSHOT}
            "WriteChunks" {"snapshot": SNAPSHOT}
        }
        "discovery.v1.DiscoveryService" {
            "Subscribe" {"hello": {"responder": "stranger", "project": PROJECT, "maxSchema": 99}}
        }
        "discovery.v1.TallyService" {
            "SendTally" {"responder": "stranger", "project": PROJECT, "sessionId": "s"}
        }
    }
}

/// A server that grpcurl asks.
pub(super) struct Server<'g> {
    pub(super) grpcurl: &'g OsString,
    pub(super) address: SocketAddr,
}

impl Server<'_> {
    fn call(&self, method: &str, request: Option<&Value>) -> (bool, String) {
        let mut command = Command::new(self.grpcurl);
        command.args(["-plaintext", "-max-time", "2", "-emit-defaults"]);
        if let Some(request) = request {
            command.args(["-d", &request.to_string()]);
        }
        let out = command.arg(self.address.to_string()).args(method.split(' ')).output().unwrap();
        let [told, failed] = [&out.stdout, &out.stderr].map(|text| String::from_utf8_lossy(text));
        (out.status.success(), format!("{told}{failed}"))
    }

    /// Asserts that each call of ours that it offers has a row, and each row a call.
    pub(super) fn offers(&self, calls: &[Call]) {
        let mut offered = BTreeSet::new();
        let (_, services) = self.call("list", None);
        for service in services.lines().filter(|name| name.starts_with("countersign.")) {
            let (_, methods) = self.call(&format!("list {service}"), None);
            offered.extend(methods.lines().map(str::to_owned));
        }
        let rows = calls.iter().map(|(name, _)| name.replace('/', "."));
        assert_eq!(rows.collect::<BTreeSet<_>>(), offered);
    }

    /// What it answers to these calls.
    pub(super) fn answers(&self, calls: &[Call]) -> String {
        let mut told = String::new();
        for (method, request) in calls {
            let (is_ok, answer) = self.call(method, Some(request));
            for mistake in ["error getting request data", "Code: Unimplemented"] {
                assert!(!answer.contains(mistake), "{method} {request}: {answer}");
            }
            let may_fail = UNANSWERED.iter().any(|name| method.ends_with(name));
            assert!(is_ok || may_fail, "{method} {request}: {answer}");
            told.push_str(&format!("== {method}\n{answer}\n"));
        }
        told
    }
}
