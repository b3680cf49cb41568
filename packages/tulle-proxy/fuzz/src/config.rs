//! Configuration: what is refused is refused with a reason, what is taken is taken alike each time.

use envoy_types::pb::google::protobuf::Any;
use tulle_xds::bootstrap;
use tulle_xds::decode::{self, Kind};

/// The first byte says which kind of resource.
pub fn xds(data: &[u8]) {
    let Some((kind, value)) = data.split_first() else { return };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let any = Any { type_url: kind.type_url().to_owned(), value: value.to_vec() };
    match (decode::resource(kind, &any), decode::resource(kind, &any)) {
        (Ok((first, warnings)), Ok((second, again))) => {
            assert_eq!(first.name(), second.name());
            assert_eq!(warnings, again);
        }
        (Err(findings), Err(again)) => {
            assert_eq!(findings, again);
            assert!(!findings.is_empty(), "refused without a reason");
            assert!(findings.iter().all(|finding| !finding.message.is_empty()));
        }
        (first, second) => panic!("taken once only: {first:?}, {second:?}"),
    }
}

pub fn bootstrap(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = bootstrap::load(text) {
        assert!(!error.to_string().is_empty());
    }
}
