//! The table against the services as they are described, and who gets past it.

use std::collections::{BTreeMap, BTreeSet};

use countersign_proto::{FILE_DESCRIPTOR_SET, control::v1::GetSnapshotRequest};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::{table::TABLE, *};
use crate::auth::rights::Means;

fn principal(rights: Rights) -> Principal {
    Principal { name: "somebody".into(), means: Means::Token, rights }
}

fn user(project: &str, level: Level) -> Principal {
    let projects = BTreeMap::from([(project.into(), level)]);
    principal(Rights::User { everywhere: None, projects })
}

fn responder(project: &str, name: Option<&str>) -> Principal {
    principal(Rights::Responder { project: project.into(), name: name.map(Into::into) })
}

/// The path of every method that this plane serves, as the `.proto` files have it.
fn methods() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            if service_name.starts_with("countersign.responder.") {
                continue;
            }
            methods.extend(service.method.iter().map(|m| format!("/{service_name}/{}", m.name())));
        }
    }
    methods
}

#[test]
fn every_method_has_its_row() {
    let methods = methods();
    assert!(methods.len() > 35, "{}", methods.len());
    let ours = |path: &&str| path.starts_with("/countersign.");
    let listed: Vec<&str> = TABLE.iter().map(|row| row.path).filter(ours).collect();
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a method has two rows in service/access/table.rs");
    let missing: Vec<&String> = methods.iter().filter(|path| !unique.contains(&***path)).collect();
    assert!(
        missing.is_empty(),
        "these methods are in the .proto files and have no row in control-plane/src/service/access/table.rs, so that nobody may call them; \
         give each a row with the least role that may, whether it changes anything, and the fields that name its project: {missing:#?}"
    );
    let gone: Vec<&&str> = unique.iter().filter(|path| !methods.contains(**path)).collect();
    assert!(gone.is_empty(), "these rows are of methods that do not exist: {gone:#?}");
}

#[test]
fn what_changes_something_needs_more_than_a_viewer_and_names_what_it_is_about() {
    for row in TABLE {
        if row.effect == Effect::Changes {
            let least = row.least;
            assert!(matches!(least, Least::User(level) if level > Level::Viewer), "{}", row.path);
        }
        let names_nothing = matches!(row.least, Least::Anybody | Least::Responder)
            || ["GetCap", "Reflection", "DescribeTransforms", "GetControlPlane"]
                .iter()
                .any(|nameless| row.path.contains(nameless));
        assert_eq!(row.names.is_none(), names_nothing, "{}", row.path);
    }
}

#[test]
fn each_role_may_call_what_it_is_for_and_no_more() {
    let callers = [
        ("viewer", user("shop", Level::Viewer)),
        ("editor", user("shop", Level::Editor)),
        ("operator", user("shop", Level::Operator)),
        ("admin", principal(Rights::all())),
        ("responder", responder("shop", None)),
        ("plane", principal(Rights::None)),
    ];
    for row in TABLE {
        for (role, who) in &callers {
            let expected = match (row.least, *role) {
                (Least::Anybody, _) | (Least::Responder | Least::ResponderOr(_), "responder") => {
                    true
                }
                (Least::Responder, _) | (_, "responder" | "plane") => false,
                (Least::User(least) | Least::ResponderOr(least), role) => {
                    role.parse::<Level>().unwrap() >= least
                }
            };
            assert_eq!(may_call(who, row).is_ok(), expected, "{role} {}", row.path);
        }
    }
}

#[test]
fn what_a_browser_can_send_is_no_call() {
    let judged = |fields: &[(&'static str, &str)]| {
        let fields = fields.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        is_no_page(&fields.collect())
    };
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
        assert!(judged(&[("content-type", kind)]).is_ok(), "{kind}");
        for (name, value) in [
            ("origin", "https://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-origin"),
        ] {
            assert!(judged(&[("content-type", kind), (name, value)]).is_err(), "{name} {value}");
        }
    }
    for kind in ["text/plain", "multipart/form-data", "application/grpc-web", "application/grpcx"] {
        assert!(judged(&[("content-type", kind)]).is_err(), "{kind}");
    }
    assert!(judged(&[]).is_err());
}

#[test]
fn paths_are_matched_whole() {
    for path in [
        "",
        "/",
        "//",
        "countersign.control.v1.SnapshotService/GetSnapshot",
        "/countersign.control.v1.SnapshotService/",
        "/countersign.control.v1.SnapshotService/getSnapshot",
        "//countersign.control.v1.SnapshotService/GetSnapshot",
        "/countersign.control.v1.SnapshotService/GetSnapshot/",
        "/countersign.responder.v1.AdminService/Drain",
    ] {
        assert!(table::row(path).is_none(), "{path}");
    }
}

#[test]
fn what_is_anothers_is_absent_and_what_is_ones_own_needs_the_role() {
    let row = |method: &str| {
        table::row(&format!("/countersign.control.v1.SnapshotService/{method}")).unwrap()
    };
    let judge = |who: &Principal, method: &str, name: &str| {
        let message = GetSnapshotRequest { name: name.to_owned() }.encode_to_vec();
        let mentions = row(method).names.unwrap()(&message).unwrap();
        may_touch(who, row(method), &mentions).map_err(|problem| Status::from(problem).code())
    };
    let anna = user("shop", Level::Viewer);
    assert_eq!(judge(&anna, "GetSnapshot", "projects/shop/snapshots/x"), Ok(()));
    let own = judge(&anna, "DeleteSnapshot", "projects/shop/snapshots/x");
    assert_eq!(own, Err(Code::PermissionDenied));
    for method in ["GetSnapshot", "DeleteSnapshot"] {
        let other = judge(&anna, method, "projects/web/snapshots/x");
        assert_eq!(other, Err(Code::NotFound), "{method}");
    }
    for name in ["", "projects/shop/snapshots/../../web/snapshots/x", "projects/shop", "x"] {
        assert_eq!(judge(&anna, "GetSnapshot", name), Err(Code::InvalidArgument), "{name}");
    }
    assert_eq!(judge(&anna, "ListSnapshots", "projects/web"), Err(Code::NotFound));
    assert_eq!(judge(&anna, "ListSnapshots", "projects/shop"), Ok(()));
}

#[test]
fn a_responder_subscribes_as_itself_only() {
    let may = |who: &Principal, project: &str, name: &str| {
        let hello = Hello { project: project.into(), responder: name.into(), ..Hello::default() };
        who.may_be(&hello).is_ok()
    };
    let (one, any) = (responder("p", Some("one")), responder("p", None));
    assert!(may(&one, "projects/p", "one") && may(&any, "projects/p", "any"));
    for (who, project, name) in [
        (&one, "projects/p", "two"),
        (&one, "projects/p", ""),
        (&one, "projects/q", "one"),
        (&any, "projects/q", "one"),
        (&any, "projects/p/x", "one"),
        (&any, "p", "one"),
    ] {
        assert!(!may(who, project, name), "{project} {name}");
    }
}

#[test]
fn a_responder_reads_what_is_its_projects_only() {
    let may = |who: &Principal, replay: &str| {
        let name = Name::parse(crate::store::Kind::Replay, "replay", replay).unwrap();
        who.may_read(&name).is_ok()
    };
    assert!(may(&responder("p", Some("one")), "projects/p/replays/r"));
    assert!(!may(&responder("p", Some("one")), "projects/q/replays/r"));
    assert!(!may(&responder("p", None), "projects/pp/replays/r"));
}
