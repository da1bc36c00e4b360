//! Calls in which both sides stream: they meet chaos as all others do, and are told when they are over.

use super::*;

#[tokio::test]
async fn dialogues_meet_chaos_and_stand_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let on = |method: &str, effect: &str| format!("(location IS \"{SERVICE}/{method}\"): {effect}");
    let rules = [
        on("FullDuplexCall", "status=503, rate=1/2"),
        on("HalfDuplexCall", "connection=reset"),
        on("StreamingInputCall", "latency=20ms"),
        on("CutCall", "body=truncate:100"),
        on("StreamingLogin", "token=expired"),
    ];
    let mut dev = serve(dir.path(), &rules.each_ref().map(String::as_str));
    let endpoint = Endpoint::new(format!("http://{}", dev.address("data").await)).unwrap();
    let mut client: Client = Grpc::new(endpoint.connect().await.unwrap());
    let talker = client.clone();
    let talk = |method: &'static str, size: usize| {
        let said = tokio_stream::iter([asked(size, &[31415]), asked(8, &[9])]);
        let mut client = talker.clone();
        async move {
            client.ready().await.unwrap();
            let call = client.streaming(Request::new(said), path(method), Messages::default());
            let mut answers = call.await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<_, Status>(())
        }
    };
    assert_eq!(talk("FullDuplexCall", 27182).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(talk("FullDuplexCall", 1).await.unwrap_err().code(), Code::NotFound);
    let reset = talk("HalfDuplexCall", 27182).await.unwrap_err();
    assert!([Code::Internal, Code::Unknown, Code::Unavailable].contains(&reset.code()), "{reset}");
    ping_pong(&mut client).await;
    client.ready().await.unwrap();
    let sent =
        Request::new(tokio_stream::iter([27182, 8, 1828, 45904].map(|size| asked(size, &[]))));
    let up = client.client_streaming(sent, path("StreamingInputCall"), Messages::default());
    let up = up.await.unwrap();
    let marker = up.metadata().get("x-speedscale-chaos").unwrap();
    assert_eq!(marker, "effect=latency;latency=20ms;rule=chaos-3");
    let cut = talk("CutCall", 27182).await.unwrap_err();
    assert!([Code::Internal, Code::Unknown, Code::Unavailable].contains(&cut.code()), "{cut}");
    client.ready().await.unwrap();
    let sent = Request::new(tokio_stream::iter([asked(1, &[]), asked(2, &[])]));
    let login = client.client_streaming(sent, path("StreamingLogin"), Messages::default());
    let token = login.await.unwrap().into_inner().token;
    let ask = Ask { token, key: KEY.to_owned(), alg: "HS256".to_owned() };
    assert_eq!(python::verify(&[ask]), [Err("ExpiredSignatureError".to_owned())]);

    let admin = harness::client::Client::new(dev.address("admin").await);
    let told = admin.get("/journal").await.json();
    let told = told["requests"].as_array().unwrap().iter().rev();
    let told: Vec<Value> = told
        .map(|entry| {
            let method = entry["path"].as_str().unwrap().rsplit('/').next().unwrap();
            json!([method, entry["outcome"], entry["status"], entry["messages"]])
        })
        .collect();
    let counts = |client: u32, missed: u32, server: u32| json!({"client": client, "not_recorded": missed, "server": server});
    let expected = [
        json!(["FullDuplexCall", "hit", 503, counts(1, 0, 0)]),
        json!(["FullDuplexCall", "miss", 404, counts(1, 1, 0)]),
        json!(["HalfDuplexCall", "hit", 200, counts(1, 0, 0)]),
        json!(["FullDuplexCall", "hit", 200, counts(4, 0, 4)]),
        json!(["StreamingInputCall", "hit", 200, counts(4, 0, 1)]),
        json!(["CutCall", "hit", 200, counts(1, 0, 0)]),
        json!(["StreamingLogin", "hit", 200, counts(2, 0, 1)]),
    ];
    assert_eq!(told, expected);
}
