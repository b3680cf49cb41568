//! The contract with the control plane: everything that its compiler emits for the configuration cases decodes here.

use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::Any;
use tulle_xds::decode::{Kind, resource};
use tulle_xds::json::{JsonError, Messages, pack};

fn goldens() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../tests/cases");
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    };
    let mut found: Vec<PathBuf> = folders(&cases)
        .iter()
        .flat_map(|dialect| folders(dialect))
        .map(|case| case.join("xds.out.yaml"))
        .filter(|golden| golden.exists())
        .collect();
    found.sort();
    found
}

fn packed(messages: &Messages, section: &str, yaml: &str) -> Result<(Kind, Any), JsonError> {
    Ok(match section {
        "clusters" => (Kind::Cluster, pack(&messages.parse::<Cluster>(yaml)?)),
        "endpoints" => (Kind::Endpoints, pack(&messages.parse::<ClusterLoadAssignment>(yaml)?)),
        "listeners" => (Kind::Listener, pack(&messages.parse::<Listener>(yaml)?)),
        "routes" => (Kind::Route, pack(&messages.parse::<RouteConfiguration>(yaml)?)),
        other => panic!("a section called {other:?}"),
    })
}

#[test]
fn what_the_compiler_emits_decodes() {
    let messages = Messages::load();
    let (mut decoded, mut wrong) = (0, Vec::new());
    for golden in goldens() {
        let case = golden.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&golden).unwrap();
        let sections: serde_norway::Mapping = serde_norway::from_str(&text).unwrap();
        for (section, resources) in &sections {
            let section = section.as_str().unwrap();
            for (name, body) in resources.as_mapping().into_iter().flatten() {
                let place = format!("{case}: {section}: {}", name.as_str().unwrap_or_default());
                let yaml = serde_norway::to_string(body).unwrap();
                match packed(&messages, section, &yaml) {
                    Err(error) => wrong.push(format!("{place}: {error}")),
                    Ok((kind, any)) => match resource(kind, &any) {
                        Ok(_) => decoded += 1,
                        Err(findings) => wrong.extend(findings.iter().map(|finding| format!("{place}: {finding}"))),
                    },
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} refused:\n{}", wrong.len(), wrong.join("\n"));
    assert!(decoded > 100, "only {decoded} resources were found");
}
