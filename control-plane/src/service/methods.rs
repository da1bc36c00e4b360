//! The names of all calls, of all planes, as the contract has them.

use countersign_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The full name of the service and the name of the method of each call.
pub(crate) fn methods() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let services = set.file.iter().flat_map(|file| {
        file.service
            .iter()
            .map(move |service| (format!("{}.{}", file.package(), service.name()), service))
    });
    services
        .flat_map(|(full, service)| {
            service.method.iter().map(move |method| (full.clone(), method.name().to_owned()))
        })
        .collect()
}
