//! Secrets: mounted by name, told by name when they are missing, made where that is asked for.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::{client::Client, wait_until};
use http::{HeaderMap, HeaderValue, Method, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use super::world::{Responder, World, mount, mount_key};

const LOGIN: &str = "client_id=shop-web&grant_type=password&username=alice&password=looking-glass";

/// The token that a login gives.
pub(super) async fn login(client: &Client) -> String {
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
    let answer = client.send(Method::POST, "/oauth/token", headers, LOGIN.into()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_a_condition_that_names_it_and_its_appearance_is_noticed() {
    let Some(world) = World::new("secret").await else { return };
    let _operator = world.operator("one", &[]);
    world.replay("demo", &json!({}));
    let _responder = world.respond("responder-demo", "one").await;
    world.pods_are_ready("responder-demo", 1);
    let message = world.wait_condition("demo", "SecretsMounted", "False", "SecretUnresolved").await;
    assert!(message.starts_with("secret jwt-demo, key tls.key: "), "{message}");
    assert_eq!(world.wait_condition("demo", "Ready", "False", "SecretUnresolved").await, message);
    // The pods run meanwhile.
    assert_eq!(world.condition("demo", "MocksReady").unwrap()[0], "True");
    let volumes =
        &world.get("deployment", "responder-demo").unwrap()["spec"]["template"]["spec"]["volumes"];
    let secret = volumes
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["secret"]["secretName"] == "jwt-demo");
    assert_eq!(secret.unwrap()["secret"]["optional"], true);

    mount_key(&world);
    world.wait_condition("demo", "SecretsMounted", "True", "Resolved").await;
    world.wait_condition("demo", "Ready", "True", "MocksReady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_look_tells_which_key_is_missing_and_others_are_not_mounted() {
    let Some(world) = World::new("access").await else { return };
    let name = json!({ "name": "listed", "namespace": world.namespace });
    world.cluster.apply(&[
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name,
            "rules": [{ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["jwt-demo"], "verbs": ["get"] }] }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": name,
            "subjects": [{ "kind": "ServiceAccount", "name": "countersign-operator", "namespace": world.namespace }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "listed" } }),
    ]);
    let _operator = world.operator("one", &["--secret-access", "jwt-demo"]);
    world.replay("demo", &json!({}));
    let missing = world.wait_condition("demo", "SecretsMounted", "False", "SecretMissing").await;
    assert_eq!(missing, "secret jwt-demo is not there");
    let secret = |key: &str| {
        let data = json!({ key: STANDARD.encode("not looked at") });
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "jwt-demo" }, "data": data })
    };
    world.apply(&secret("other"));
    wait_until("the key is named", || async {
        let [_, _, message] = world.condition("demo", "SecretsMounted")?;
        (message == "secret jwt-demo has no key tls.key").then_some(())
    })
    .await;
    world.apply(&secret("tls.key"));
    world.wait_condition("demo", "SecretsMounted", "Unknown", "NotReported").await;

    world.replay("more", &json!({ "secretRefs": [{ "name": "unlisted" }] }));
    let refused = world.wait_condition("more", "SecretsMounted", "False", "SecretNotAllowed").await;
    assert!(refused.starts_with("secret unlisted: "), "{refused}");
    let made = world.wait_for("deployment", "responder-more").await.to_string();
    assert!(!made.contains("unlisted") && made.contains("jwt-demo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_made_signs_what_a_key_set_verifies() {
    let Some(world) = World::new("keys").await else { return };
    let _operator = world.operator("one", &[]);
    world.replay("demo", &json!({ "generateKey": "RS256" }));
    // Whatever else is called so is neither used nor touched.
    let name = mounted(&world.wait_for("deployment", "responder-demo").await, "jwt-demo");
    assert_ne!(name, "jwt-demo");
    let made = world.wait_for("secret", &name).await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "demo");
    let key = key_of(&made);
    let dir = Path::new(&world.path("secrets")).join("jwt-demo");
    mount(&dir, &[("tls.key", &key)]);
    let Responder { data, process: _process } = world.respond("responder-demo", "one").await;
    world.pods_are_ready("responder-demo", 1);
    world.wait_condition("demo", "Ready", "True", "MocksReady").await;

    let client = Client::new(data);
    let token = login(&client).await;
    let set: JwkSet =
        serde_json::from_value(client.get("/.well-known/jwks.json").await.json()).unwrap();
    let named = decode_header(&token).unwrap().kid.unwrap();
    let public = DecodingKey::from_jwk(set.find(&named).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    decode::<Value>(&token, &public, &validation).unwrap();

    // It is made once: neither another look nor another operator makes another.
    world.replay("demo", &json!({ "generateKey": "RS256", "buildTag": "again" }));
    wait_until("the change is seen", || async {
        let replay = world.get("trafficreplay", "demo")?;
        (replay["status"]["observedGeneration"] == replay["metadata"]["generation"]).then_some(())
    })
    .await;
    assert_eq!(key_of(&world.get("secret", &name).unwrap()), key);
}

/// The secret that a pod has in the directory of this name.
fn mounted(deployment: &Value, directory: &str) -> String {
    let pod = &deployment["spec"]["template"]["spec"];
    let of = |list: &Value, is: &dyn Fn(&Value) -> bool| {
        list.as_array()
            .and_then(|list| list.iter().find(|one| is(one)))
            .cloned()
            .unwrap_or_default()
    };
    let path = format!("/home/speedscale/secret/{directory}");
    let mount =
        of(&pod["containers"][0]["volumeMounts"], &|mount| mount["mountPath"] == path.as_str());
    let volume = of(&pod["volumes"], &|volume| volume["name"] == mount["name"]);
    volume["secret"]["secretName"].as_str().unwrap_or_default().to_owned()
}

fn key_of(secret: &Value) -> Vec<u8> {
    STANDARD.decode(secret["data"]["tls.key"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_the_test_config_are_mounted_too() {
    let Some(world) = World::new("config").await else { return };
    let config = world.path("config.json");
    fs::write(&config, r#"{"id":"listing","cluster":{"secrets":["of-config"]}}"#).unwrap();
    world.cli(&["testconfig", "put", &config]);
    let _operator = world.operator("one", &[]);
    world.replay(
        "demo",
        &json!({ "testConfigID": "listing", "secretRefs": [{ "name": "of-replay" }] }),
    );
    let made = world.wait_for("deployment", "responder-demo").await;
    let mounts = &made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"];
    let paths: Vec<&str> = mounts
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    for secret in ["jwt-demo", "of-config", "of-replay"] {
        assert!(paths.contains(&format!("/home/speedscale/secret/{secret}").as_str()), "{paths:?}");
    }
}
