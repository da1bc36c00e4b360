//! Test configs. The built-in `standard` belongs to the program, not to the store: it is in every project, and nobody can change it.

use std::sync::Arc;

use countersign_engine::{
    snapshot::{
        digest::Digest,
        wire::{encode_digest, timestamp},
    },
    test_config::TestConfig as Parsed,
};
use countersign_proto::control::v1::{
    CloneTestConfigRequest, CreateTestConfigRequest, DeleteTestConfigRequest, GetTestConfigRequest,
    ListTestConfigsRequest, ListTestConfigsResponse, TestConfig, UpdateTestConfigRequest,
    test_config_service_server::TestConfigService,
};
use prost::Message as _;
use serde_json::value::RawValue;
use tonic::{Request, Response, Status};

use super::{
    Plane, Problem,
    name::{self, Name},
    page, quota,
};
use crate::store::{Expect, Kind, ListQuery, Record, Txn};

/// The id of the built-in test config.
pub(crate) const STANDARD: &str = "standard";

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct TestConfigs {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl TestConfigService for TestConfigs {
    async fn get_test_config(
        &self,
        request: Request<GetTestConfigRequest>,
    ) -> Result<Response<TestConfig>, Status> {
        let name = Name::parse(Kind::TestConfig, "name", &request.into_inner().name)?;
        Ok(Response::new(get(&self.plane, &name).await?))
    }

    async fn list_test_configs(
        &self,
        request: Request<ListTestConfigsRequest>,
    ) -> Result<Response<ListTestConfigsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn create_test_config(
        &self,
        request: Request<CreateTestConfigRequest>,
    ) -> Result<Response<TestConfig>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn update_test_config(
        &self,
        request: Request<UpdateTestConfigRequest>,
    ) -> Result<Response<TestConfig>, Status> {
        Ok(Response::new(self.update(request.into_inner()).await?))
    }

    async fn delete_test_config(
        &self,
        request: Request<DeleteTestConfigRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::TestConfig, "name", &request.name)?;
        refuse_protected(&name)?;
        let txn = Txn::delete(Kind::TestConfig, name.full, super::transform::expect(request.etag));
        self.plane.meta.commit(txn).await.map_err(Problem::from)?;
        self.plane.quota.released(&name.project, 0);
        Ok(Response::new(()))
    }

    async fn clone_test_config(
        &self,
        request: Request<CloneTestConfigRequest>,
    ) -> Result<Response<TestConfig>, Status> {
        Ok(Response::new(self.copy(request.into_inner()).await?))
    }
}

impl TestConfigs {
    async fn list(
        &self,
        request: ListTestConfigsRequest,
    ) -> Result<ListTestConfigsResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let prefix = name::prefix(Kind::TestConfig, &project);
        let limit = page::size(request.page_size)?;
        let after = page::after(&prefix, &request.page_token)?;
        let standard = standard(&Name::within(Kind::TestConfig, &project, "parent", STANDARD)?);
        let query = ListQuery {
            kind: Kind::TestConfig,
            prefix: prefix.clone(),
            after: after.clone(),
            limit,
        };
        let found = self.plane.meta.list(query).await?;
        let mut more = found.more;
        let mut test_configs: Vec<TestConfig> =
            found.records.into_iter().map(read).collect::<Result<_, _>>()?;
        let place = test_configs.partition_point(|config| config.name < standard.name);
        // Past the end of a page that is not the last, it belongs to a later page.
        if standard.name > after && (place < test_configs.len() || !more) {
            test_configs.insert(place, standard);
        }
        if test_configs.len() > limit {
            test_configs.truncate(limit);
            more = true;
        }
        let next_page_token = match test_configs.last() {
            Some(last) if more => page::token(&prefix, &last.name),
            _ => String::new(),
        };
        Ok(ListTestConfigsResponse { test_configs, next_page_token })
    }

    async fn create(&self, request: CreateTestConfigRequest) -> Result<TestConfig, Problem> {
        let project = name::project("parent", &request.parent)?;
        let json = request.test_config.unwrap_or_default().config_json;
        let parsed = accept(&json)?;
        let name = if request.test_config_id.is_empty() {
            Name::within(Kind::TestConfig, &project, "test_config.config_json.id", parsed.id())?
        } else {
            Name::within(Kind::TestConfig, &project, "test_config_id", &request.test_config_id)?
        };
        let exists = name.id == STANDARD
            || (request.validate_only
                && self.plane.meta.get(Kind::TestConfig, &name.full).await?.is_some());
        if exists {
            return Err(Problem::Exists { kind: Kind::TestConfig, name: name.full });
        }
        if request.validate_only {
            return Ok(TestConfig { name: name.full, ..test_config(json) });
        }
        self.put(name, Expect::Absent, json).await
    }

    async fn update(&self, request: UpdateTestConfigRequest) -> Result<TestConfig, Problem> {
        let given = request.test_config.unwrap_or_default();
        let name = Name::parse(Kind::TestConfig, "test_config.name", &given.name)?;
        refuse_protected(&name)?;
        accept(&given.config_json)?;
        let expect = match (given.etag.is_empty(), request.allow_missing) {
            (false, _) => Expect::Etag(given.etag),
            (true, true) => Expect::Any,
            (true, false) => Expect::Present,
        };
        if request.validate_only {
            if !request.allow_missing {
                self.plane.get(Kind::TestConfig, &name.full).await?;
            }
            return Ok(TestConfig { name: name.full, ..test_config(given.config_json) });
        }
        self.put(name, expect, given.config_json).await
    }

    async fn copy(&self, request: CloneTestConfigRequest) -> Result<TestConfig, Problem> {
        let from = Name::parse(Kind::TestConfig, "name", &request.name)?;
        let to = Name::within(
            Kind::TestConfig,
            &from.project,
            "test_config_id",
            &request.test_config_id,
        )?;
        if to.id == STANDARD {
            return Err(Problem::Exists { kind: Kind::TestConfig, name: to.full });
        }
        let source = get(&self.plane, &from).await?;
        let json = renamed(&source.config_json, &to.id).map_err(|_| Problem::State {
            reason: "INVALID_TEST_CONFIG",
            subject: from.full,
            message:
                "the test config is no JSON object, so that it cannot be copied under another id"
                    .to_owned(),
        })?;
        self.put(to, Expect::Absent, json).await
    }

    async fn put(&self, name: Name, expect: Expect, json: String) -> Result<TestConfig, Problem> {
        let body = test_config(json).encode_to_vec();
        read(quota::put(&self.plane, Kind::TestConfig, name, expect, body).await?)
    }
}

/// A test config, be it stored or built in.
pub(crate) async fn get(plane: &Plane, name: &Name) -> Result<TestConfig, Problem> {
    if name.id == STANDARD {
        return Ok(standard(name));
    }
    read(plane.get(Kind::TestConfig, &name.full).await?)
}

/// Reads a test config's text.
pub(crate) fn accept(json: &str) -> Result<Parsed, Problem> {
    Parsed::parse(json.as_bytes()).map_err(|findings| Problem::Document {
        what: "the test config",
        reason: "INVALID_TEST_CONFIG",
        findings,
    })
}

fn standard(name: &Name) -> TestConfig {
    let config = test_config(Parsed::STANDARD.to_owned());
    let etag = Digest::of(Parsed::STANDARD.as_bytes()).to_hex().chars().take(12).collect();
    TestConfig { name: name.full.clone(), protected: true, etag, ..config }
}

fn test_config(json: String) -> TestConfig {
    TestConfig {
        digest: Some(encode_digest(&Digest::of(json.as_bytes()))),
        config_json: json,
        ..TestConfig::default()
    }
}

fn read(record: Record) -> Result<TestConfig, Problem> {
    let stored: TestConfig = super::stored(&record)?;
    Ok(TestConfig {
        name: record.name,
        etag: record.etag,
        create_time: Some(timestamp(record.created)),
        update_time: Some(timestamp(record.updated)),
        ..stored
    })
}

fn refuse_protected(name: &Name) -> Result<(), Problem> {
    if name.id != STANDARD {
        return Ok(());
    }
    Err(Problem::State {
        reason: "TEST_CONFIG_PROTECTED",
        subject: name.full.clone(),
        message:
            "the test config `standard` is protected; clone it under another id and change the copy"
                .to_owned(),
    })
}

/// The text of a config under another id and unprotected; everything else stays as it was written.
fn renamed(json: &str, id: &str) -> Result<String, serde_json::Error> {
    let members: Members<'_> = serde_json::from_str(json)?;
    let id = serde_json::to_string(id)?;
    let mut lines = vec![format!("  \"id\": {id}"), "  \"protected\": false".to_owned()];
    for (key, value) in members.0 {
        if !key.eq_ignore_ascii_case("id") && !key.eq_ignore_ascii_case("protected") {
            lines.push(format!("  {}: {}", serde_json::to_string(&key)?, value.get()));
        }
    }
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// The members of a JSON object in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_the_id_and_the_protection_only() {
        let json = r#"{"version":3,"Id":"standard", "protected" : true,"rules":[{"value":1.50}],"z":null,"a":"ä"}"#;
        let copy = renamed(json, "mine").unwrap();
        assert_eq!(
            copy,
            "{\n  \"id\": \"mine\",\n  \"protected\": false,\n  \"version\": 3,\n  \"rules\": [{\"value\":1.50}],\n  \"z\": null,\n  \"a\": \"ä\"\n}\n"
        );
        assert!(renamed("[]", "mine").is_err());
    }
}
