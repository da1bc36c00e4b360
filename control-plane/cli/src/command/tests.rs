//! Commands against both planes in this process.

use std::{fs, path::PathBuf, time::Duration};

use countersign_proto::{control::v1::Replay, snapshot::v1::ServeDirection};
use countersign_responder::transport::Transport;
use tempfile::TempDir;

use super::{
    dev::{
        adjust::Adjust,
        session::{Changes, Inputs, Session},
    },
    replay,
    snapshot::{self, Import, Without},
    test_config, transform,
};
use crate::{
    connect::{Client, Collection},
    failure::Failure,
    output::{Format, Output},
    planes::{Planes, Settings},
};

const PAIR: &str = "\
### REQUEST ###
```
GET http://api.example.com/PATH HTTP/1.1
Host: api.example.com
```

```
```

### RESPONSE ###
```
HTTP/1.1 200 OK
Content-Type: application/json
```

```
{}
```

### METADATA ###
```
direction: DIRECTION
ts: 2024-03-05T09:00:00Z
```
";
const TEMPLATE: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"a"}}]}]}"#;

fn pair(path: &str, direction: &str) -> String {
    PAIR.replace("PATH", path).replace("DIRECTION", direction)
}

/// Both planes, and a directory with a recording of these files.
async fn planes(files: &[(&str, String)]) -> (Planes, TempDir) {
    let root = tempfile::tempdir().unwrap();
    for directory in ["recording", "keys"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    for (name, text) in files {
        fs::write(root.path().join("recording").join(name), text).unwrap();
    }
    let any = "127.0.0.1:0".parse().unwrap();
    let planes = Planes::start(Settings {
        passthrough: countersign_responder::passthrough::Settings::default(),
        listen: any,
        admin_listen: any,
        api_listen: None,
        grpc_listen: any,
        ui: countersign_control_plane::config::Ui::Off,
        data_dir: root.path().join("data"),
        secret_dir: root.path().join("keys"),
        files_dir: root.path().join("files"),
        template_env: Vec::new(),
        project: "default".into(),
        transport: Transport::default(),
    });
    (planes.await.unwrap(), root)
}

/// Runs a test's steps, then shuts down.
fn run(
    planes: Planes,
    steps: impl Future<Output = Result<(), Failure>>,
) -> impl Future<Output = ()> {
    // Steps are large.
    let steps = Box::pin(steps);
    async move {
        let ended = planes.run(steps).await;
        ended.unwrap_or_else(|failure| panic!("{}", failure.render()));
    }
}

fn out() -> Output {
    Output::new(Format::Json)
}

async fn import(
    client: &Client,
    root: &TempDir,
    id: &str,
    flags: (bool, bool),
) -> Result<u64, Failure> {
    let import = Import {
        recordings: &[root.path().join("recording")],
        id: id.into(),
        transform_id: None,
        strict: flags.0,
        validate_only: flags.1,
        filter: String::new(),
        without: Without::default(),
    };
    Ok(import.run(client, &out()).await?.pair_count)
}

#[tokio::test]
async fn an_import_keeps_all_or_leaves_nothing() {
    let files = [
        ("1.md", pair("one", "OUT")),
        ("2.md", pair("two", "OUT")),
        ("3.json", "{\"ts\":".to_owned()),
    ];
    let (planes, root) = planes(&files).await;
    let client = planes.client.clone();
    run(planes, async move {
        let strict = import(&client, &root, "a", (true, false)).await.unwrap_err();
        assert_eq!(strict.exit_code(), 2, "{}", strict.render());
        assert!(strict.render().contains("3.json:1 (record 1, byte 0): "), "{}", strict.render());
        assert_eq!(import(&client, &root, "a", (false, true)).await?, 2);
        assert_eq!(snapshot::list(&client).await?.len(), 0, "neither left a snapshot");
        assert_eq!(import(&client, &root, "a", (false, false)).await?, 2);
        let again = import(&client, &root, "a", (false, false)).await.unwrap_err();
        assert_eq!(again.exit_code(), 2);
        assert_eq!(snapshot::list(&client).await?.len(), 1, "the first is still there");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_import_keeps_what_its_filter_selects() {
    let files = [("1.md", pair("one", "OUT")), ("2.md", pair("two", "IN"))];
    let (planes, root) = planes(&files).await;
    let client = planes.client.clone();
    run(planes, async move {
        let import = |filter: &str| Import {
            recordings: &[],
            id: "f".into(),
            transform_id: None,
            strict: false,
            validate_only: false,
            filter: filter.into(),
            without: Without::default(),
        };
        let recordings = [root.path().join("recording")];
        let wrong = Import { recordings: &recordings, ..import("direction IS \"UP\"") };
        let wrong = wrong.run(&client, &out()).await.unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
        assert!(wrong.render().contains("character 14"), "{}", wrong.render());
        let right = Import { recordings: &recordings, ..import("direction IS \"IN\"") };
        let kept = right.run(&client, &out()).await?;
        assert_eq!((kept.pair_count, kept.in_count, kept.report.unwrap().skipped), (1, 1, 1));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_is_put_twice_is_replaced() {
    let (planes, root) = planes(&[]).await;
    let client = planes.client.clone();
    run(planes, async move {
        let _root = root;
        let first = transform::put(&client, TEMPLATE, None, false, "put t").await?;
        let edited = TEMPLATE.replace("\"a\"", "\"b\"");
        let second = transform::put(&client, &edited, None, false, "put t").await?;
        assert_eq!((&first.name, second.template_json), (&second.name, edited));
        let config = r#"{"id":"mine","x":1}"#;
        let first = test_config::put(&client, config, None, false, "put c").await?;
        let second =
            test_config::put(&client, &config.replace('1', "2"), None, false, "put c").await?;
        assert_eq!(first.name, second.name);
        let protected =
            test_config::put(&client, r#"{"id":"standard"}"#, None, false, "put c").await;
        assert_eq!(protected.unwrap_err().exit_code(), 2);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_fleet_that_does_not_come_ends_in_time() {
    let (planes, root) = planes(&[("1.md", pair("one", "OUT"))]).await;
    let client = planes.client.clone();
    let server = format!("http://{}", planes.addresses.grpc);
    run(planes, async move {
        // A project that the responder of this process does not serve.
        let elsewhere =
            Client::connect(&server, "elsewhere", &Default::default(), Default::default()).await?;
        import(&elsewhere, &root, "a", (false, false)).await?;
        let wanted =
            Replay { snapshot: elsewhere.name(Collection::Snapshots, "a"), ..Replay::default() };
        replay::create(&elsewhere, "a", wanted).await?;
        let started =
            replay::start_named(&elsewhere, &elsewhere.name(Collection::Replays, "a")).await?;
        let late = replay::wait_until_ready(&elsewhere, &started, Duration::from_millis(50)).await;
        let late = late.unwrap_err();
        assert_eq!(
            (late.exit_code(), late.render().contains("no responder")),
            (5, true),
            "{}",
            late.render()
        );
        assert_eq!(replay::list(&client).await?.len(), 0, "projects are apart");
        Ok(())
    })
    .await;
}

fn inputs(root: &TempDir) -> Inputs {
    let template = root.path().join("t.json");
    Inputs {
        recordings: vec![root.path().join("recording")],
        transform: template.exists().then_some(template),
        test_config: None,
        adjust: Adjust::default(),
        serve: None,
    }
}

fn file(root: &TempDir, name: &str) -> PathBuf {
    root.path().join("recording").join(name)
}

#[tokio::test]
async fn good_edits_are_taken_over_and_broken_ones_change_nothing() {
    let (planes, root) = planes(&[("1.md", pair("one", "OUT"))]).await;
    let client = planes.client.clone();
    run(
        planes,
        Box::pin(async move {
            fs::write(root.path().join("t.json"), TEMPLATE).unwrap();
            let mut session = Session::new(client.clone(), inputs(&root));
            session.start(&out()).await?;
            let recordings = Changes { recordings: true, ..Changes::default() };
            let transform = Changes { transform: true, ..Changes::default() };
            let served = |session: &Session| session.current().unwrap().replay.clone();

            fs::write(file(&root, "2.md"), pair("two", "OUT")).unwrap();
            session.reload(recordings, &out()).await?;
            assert_eq!(session.counts(), "2 OUT pairs");
            let good = served(&session);

            fs::write(file(&root, "3.json"), "{").unwrap();
            let broken = session.reload(recordings, &out()).await.unwrap_err();
            assert_eq!(broken.exit_code(), 2);
            fs::write(root.path().join("t.json"), TEMPLATE.replace("\"path\"", "\"pfad\""))
                .unwrap();
            let broken = session.reload(transform, &out()).await.unwrap_err();
            assert!(
                broken.render().contains("responder[0].transforms[0].config.path"),
                "{}",
                broken.render()
            );
            assert_eq!(served(&session), good);

            fs::write(root.path().join("t.json"), TEMPLATE.replace("\"a\"", "\"b\"")).unwrap();
            session.reload(transform, &out()).await?;
            let now = served(&session);
            assert!(
                now.name == good.name
                    && now.generation > good.generation
                    && now.bundle != good.bundle
            );
            // Of everything that was made on the way only what is served is left.
            assert_eq!(
                (replay::list(&client).await?.len(), snapshot::list(&client).await?.len()),
                (1, 1)
            );
            Ok(())
        }),
    )
    .await;
}

#[tokio::test]
async fn a_template_that_is_refused_ends_the_start_with_every_finding() {
    let (planes, root) = planes(&[("1.md", pair("one", "OUT"))]).await;
    let client = planes.client.clone();
    run(
        planes,
        Box::pin(async move {
            fs::write(
                root.path().join("t.json"),
                TEMPLATE.replace("\"path\"", "\"pfad\"").replace("extractor", "extraktor"),
            )
            .unwrap();
            let refused = Session::new(client, inputs(&root)).start(&out()).await.unwrap_err();
            let text = refused.render();
            assert!(
                text.contains("responder[0].transforms[0].config.path")
                    && text.contains("responder[0].extractor"),
                "{text}"
            );
            assert_eq!(refused.exit_code(), 2);
            Ok(())
        }),
    )
    .await;
}

#[tokio::test]
async fn what_is_served_follows_what_was_recorded() {
    for (directions, expected) in [
        (["IN", "IN"], (ServeDirection::In, "2 IN pairs")),
        (["IN", "OUT"], (ServeDirection::Out, "1 OUT pair")),
    ] {
        let files = [("1.md", pair("one", directions[0])), ("2.md", pair("two", directions[1]))];
        let (planes, root) = planes(&files).await;
        let client = planes.client.clone();
        run(
            planes,
            Box::pin(async move {
                let mut session = Session::new(client, inputs(&root));
                session.start(&out()).await?;
                assert_eq!((session.current().unwrap().serve, session.counts().as_str()), expected);
                Ok(())
            }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_told_and_nothing_is_left_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let root = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let settings = |grpc_listen| Settings {
        passthrough: countersign_responder::passthrough::Settings::default(),
        listen: taken.local_addr().unwrap(),
        admin_listen: any,
        api_listen: None,
        grpc_listen,
        ui: countersign_control_plane::config::Ui::Off,
        data_dir: root.path().join("data"),
        secret_dir: root.path().to_owned(),
        files_dir: root.path().to_owned(),
        template_env: Vec::new(),
        project: "default".into(),
        transport: Transport::default(),
    };
    let failure = Planes::start(settings(any)).await.unwrap_err();
    assert_eq!(
        (failure.exit_code(), failure.render().contains("in use")),
        (1, true),
        "{}",
        failure.render()
    );
    // The data directory is free again, so that it fails for the same reason.
    let failure = Planes::start(settings(any)).await.unwrap_err();
    assert!(failure.render().contains("in use"), "{}", failure.render());
}
