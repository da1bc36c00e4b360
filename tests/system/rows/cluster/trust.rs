//! Who is let in: versions that differ, certificates that end, and names that two processes go by.

use std::time::SystemTime;

use countersign_tls::issue::{Leaf, issue};
use tonic::Code;

use super::*;
use crate::mutual;

// The versions that count are those of the layout of bundles: what a responder cannot read it must not be sent. Fields that one side does not know are passed
// over, as protobuf has it.
#[tokio::test(flavor = "multi_thread")]
async fn c11_other_versions_work_as_far_as_bundles_can_be_read_and_others_are_refused_by_number() {
    let world = World::serve(Vec::new()).await;
    for (version, max_schema) in [("0.0.1", 2), ("99.0.0", 3)] {
        let hello = Hello { version: version.into(), max_schema, ..hello(version) };
        let mut talker = Talker::greet(world.grpc(), hello).await.unwrap();
        assert!(matches!(talker.hear().await.unwrap(), Heard::Welcome(_)), "{version}");
    }
    let old = Hello { version: "0.0.1".into(), max_schema: 1, ..hello("old") };
    let mut talker = Talker::greet(world.grpc(), old).await.unwrap();
    let refused = talker.hear().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let own = env!("CARGO_PKG_VERSION");
    for part in [&*format!("control plane {own} have layout 2"), "responder 0.0.1", "up to 1"] {
        assert!(refused.message().contains(part), "no `{part}` in {refused:?}");
    }
    assert!(
        format!("{:?}", tonic_types::StatusExt::get_error_details(&refused))
            .contains("SCHEMA_TOO_OLD")
    );
    drop(world.end().await);
}

/// A certificate that ends then.
fn ends(world: &mutual::World, role: &str, ends: SystemTime, into: &str) {
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = Leaf { role: role.parse().unwrap(), hosts: &hosts, ends, domain: None };
    let authority = world.dir.path().join("certs/ca");
    issue(&authority, &leaf, &world.dir.path().join(into)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_a_certificate_that_ends_is_told_before_and_refused_by_name_and_date_after() {
    let world = mutual::World::new();
    let day = Duration::from_secs(24 * 3600);
    let soon = SystemTime::now() + 3 * day;
    ends(&world, "control-plane/one", soon, "soon");
    ends(&world, "responder/default/late", SystemTime::now() - day, "late");
    let more = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut plane = world.control_plane_with("soon", &more);
    let at = plane.address("grpc").await;
    let admin = Client::new(plane.address("admin").await);
    mutual::says(&plane, "ends soon").await;
    let expiry = "countersign_certificate_expiry_timestamp_seconds";
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = metric(&admin, expiry).await.unwrap() - seconds(SystemTime::now());
    assert!(left < 7.0 * day.as_secs_f64() && left > 2.0 * day.as_secs_f64(), "{left}");

    let mut one = world.responder("one", at, "certs/responder", "certs/responder/ca.crt");
    world.connected(at, "one").await;
    world.start(at);
    let client = Client::new(one.address("data").await);
    let own = Client::new(one.address("admin").await);
    assert!(metric(&own, expiry).await.unwrap() > seconds(soon));

    let late = world.responder("late", at, "late", "certs/responder/ca.crt");
    for (process, says) in [(&plane, "a client's certificate is refused"), (&late, "ended at")] {
        mutual::says(process, says).await;
    }
    for part in ["subject=", "issuer=", "notAfter="] {
        assert!(plane.text().contains(part), "no {part} in {}", plane.text());
    }

    // Another one is taken over; who is connected stays so.
    let connected = plane.text().matches("responder subscribed").count();
    ends(&world, "control-plane/one", SystemTime::now() + 90 * day, "soon");
    wait_until("the new certificate is told of", || async {
        (metric(&admin, expiry).await.unwrap() > seconds(soon) + 1.0).then_some(())
    })
    .await;
    assert!(mutual::is_valid(&client).await);
    assert_eq!(plane.text().matches("responder subscribed").count(), connected);

    // A server whose certificate has ended is refused by who connects, who names it.
    ends(&world, "control-plane/one", SystemTime::now() - day, "soon");
    mutual::says(&plane, "ended at").await;
    let list = world.user(at, &["replay", "list"]);
    for part in ["subject=", "issuer=", "notAfter="] {
        assert!(list.text().contains(part), "no {part} in {}", list.text());
    }
    assert!(mutual::is_valid(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_of_two_nodes_of_one_name_the_newest_counts_and_that_is_shown() {
    let world = World::serve(Vec::new()).await;
    let secrets = world.dir.path().join("secrets");
    let listed = || {
        let told = world.cli(&["--output", "json", "responder", "list"]).stdout();
        let told: Vec<Value> = serde_json::from_str(&told).unwrap();
        told.into_iter().find(|it| it["name"] == "twin")
    };
    let shows = |address: SocketAddr, others: u32| {
        wait_until("it is shown who counts", move || async move {
            let twin = listed()?;
            let counts = twin["dataAddress"] == address.to_string() && twin["connected"] == true;
            (counts && twin["others"] == others).then_some(())
        })
    };
    let mut first = responder("twin", world.grpc(), &secrets, &[]);
    let first_at = first.address("data").await;
    shows(first_at, 0).await;
    let mut second = responder("twin", world.grpc(), &secrets, &[]);
    let second_at = second.address("data").await;
    shows(second_at, 1).await;
    let told = world.cli(&["responder", "list"]).ok().stdout();
    assert!(told.contains("yes, 1 more of this name"), "{told}");
    assert!(world.plane.text().contains("another process of this name"), "{}", world.plane.text());
    // Both go on with what they have; what the first says of itself counts no more.
    for at in [first_at, second_at] {
        let client = Client::new(at);
        wait_until("it serves", || async {
            (client.get("/probe").await.status == 200).then_some(())
        })
        .await;
    }
    second.kill();
    shows(first_at, 0).await;
    // A node that comes back at another address is the same.
    first.kill();
    let mut again = responder("twin", world.grpc(), &secrets, &[]);
    shows(again.address("data").await, 0).await;
    drop(world.end().await);
}
